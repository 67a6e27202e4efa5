"""`python -m composer`."""

import sys

from composer.cli import main

sys.exit(main())
