"""`python -m backstay.chaos SCRIPT`: the fault server as a process."""

import sys

from backstay.chaos.serve import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
