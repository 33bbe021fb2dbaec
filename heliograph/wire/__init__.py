"""The contract: every operation, event and identifier that a server and a client say to each other."""
