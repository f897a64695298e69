"""`python -m read_api`: one read API as a process."""

import sys

from read_api.main import run

sys.exit(run())
