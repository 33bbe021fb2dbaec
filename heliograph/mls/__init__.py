"""Messaging Layer Security (RFC 9420), one file a section; bytes, time and randomness in, values out."""
