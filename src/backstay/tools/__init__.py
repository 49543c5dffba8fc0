"""Tools and the effects they have: commands under their supervisor, patches, plans."""
