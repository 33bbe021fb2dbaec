"""Where the truth is kept: one interface, one writer, group commit."""
