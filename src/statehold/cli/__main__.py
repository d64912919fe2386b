"""`python -m statehold.cli`."""

import sys

from statehold.cli import main

sys.exit(main())
