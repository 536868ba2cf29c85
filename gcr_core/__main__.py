"""`python -m gcr_core COMMAND`."""

import sys

from .cli import main
from .processes import collect_seldom, keep_quiet

collect_seldom()
keep_quiet()
sys.exit(main())
