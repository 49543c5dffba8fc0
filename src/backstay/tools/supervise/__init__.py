"""The supervisor program: standard library only, imports nothing of backstay.

It is run as a directory (`python -I -S .../supervise FOLDER`), where this package is called
`supervise`; the agent imports `layout` and `processes` from it under their full names.
"""
