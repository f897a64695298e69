"""`python -m operator_cli`: the same as `depotgrid`."""

import sys

from operator_cli.main import run

sys.exit(run())
