"""`python -m gcr_core COMMAND`."""

import sys

from .cli import main

sys.exit(main())
