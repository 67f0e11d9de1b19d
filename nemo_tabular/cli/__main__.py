"""`python -m nemo_tabular.cli` is `nemo-tabular`."""

import sys

from . import main

sys.exit(main())
