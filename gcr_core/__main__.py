"""`python -m gcr_core COMMAND`."""

import sys

from .cli import main
from .processes import collect_seldom

collect_seldom()
sys.exit(main())
