"""`python -m backstay`: the same as the console script."""

import sys

from backstay.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
