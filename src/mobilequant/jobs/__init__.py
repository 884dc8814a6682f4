"""What each command does, callable from Python; the command line only parses, calls and prints."""
