"""Moderation: from a report to a decision whose reasons are given, whose act is logged, and which anyone can check."""
