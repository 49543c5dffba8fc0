"""`python -m backstay.chaos ...`: the same as `backstay chaos ...`."""

import sys

from backstay.chaos.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
