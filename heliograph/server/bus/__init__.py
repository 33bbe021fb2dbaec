"""Hints that a topic has grown. Losing one costs latency, never an entry."""
