"""The command line: one file a command. It arranges, asks and prints; what it does lies in the packages below."""
