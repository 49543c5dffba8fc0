"""The command line: arguments in, exit codes and text out. Owns no behaviour of a session."""
