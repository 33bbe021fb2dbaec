"""The server: one file a feature. It delivers what it cannot read, and shows what it decides."""
