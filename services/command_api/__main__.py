"""`python -m command_api`: one command API as a process."""

import sys

from command_api.main import run

sys.exit(run())
