"""`python -m backstay`: the same as the console script."""

from backstay.cli.main import run

if __name__ == "__main__":
    run()
