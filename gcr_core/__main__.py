"""`python -m gcr_core COMMAND`, and `gcr COMMAND` where the package is installed."""

import sys

from gcr_core.runtime import INTERRUPTED, collect_seldom, interrupt_imports, keep_quiet, open_streams


def main() -> int:
    """Runs this process's command; returns its exit status, INTERRUPTED after Ctrl-C, also during imports."""
    try:
        interrupt_imports()
        open_streams()
        collect_seldom()
        keep_quiet()
        from gcr_core import cli

        return cli.main()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
