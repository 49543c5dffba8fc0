"""Sessions that are broken, or another agent's: read, checked, salvaged, repaired, carried over."""
