"""The command line: one file per command, which parses, calls a job and prints. Heavy imports wait for the call."""
