"""Measurements of the command line as a whole process; see `__main__`."""
