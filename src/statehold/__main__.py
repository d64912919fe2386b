"""`python -m statehold`: the command line."""

import sys

from statehold.cli import main

sys.exit(main())
