"""The SDK: one device of one account, its keys and its store, and everything that it says to a server."""
