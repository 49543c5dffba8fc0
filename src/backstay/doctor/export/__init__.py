"""Sessions as files for people and programs: pages, lines, bundles; and what is redacted in them.

Reads journals and writes to none. Importing codes and repairs are other parts' business.
"""
