"""`python -m event_relay`: one relay as a process."""

import sys

from event_relay.main import run

sys.exit(run())
