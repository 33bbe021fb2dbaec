"""Faults that a server must survive: killed at any moment, power cut at any moment."""
