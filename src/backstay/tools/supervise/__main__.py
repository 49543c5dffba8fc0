"""Entry of the supervisor program; owns nothing but the import path."""

from __future__ import annotations

import importlib
import os
import sys

if __name__ == "__main__":
    # A directory that is run is put first on the path; its parent goes last instead, so that
    # nothing here can shadow the standard library.
    sys.path[:] = [*sys.path[1:], os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    sys.exit(importlib.import_module("supervise.server").main(sys.argv[1:]))
