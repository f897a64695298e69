"""`python -m depot_sim`: the demo's gateway as a process."""

import sys

from depot_sim.main import run

sys.exit(run())
