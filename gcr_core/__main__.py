"""`python -m gcr_core COMMAND`, and `gcr COMMAND` where the package is installed."""

import sys

from gcr_core import cli
from gcr_core.runtime import collect_seldom, keep_quiet


def main() -> int:
    """Runs this process's command; returns its exit status."""
    collect_seldom()
    keep_quiet()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
