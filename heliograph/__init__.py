"""Heliograph: private conversations sealed end to end, public channels in the open, checkable moderation."""

__version__ = "0.1.0"
