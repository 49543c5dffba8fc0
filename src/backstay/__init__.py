"""Backstay: a coding agent and agent runtime whose sessions survive everything.

Owns the version and, later, the public names. Importing it loads nothing heavy.
"""

__version__ = "0.1.0"
