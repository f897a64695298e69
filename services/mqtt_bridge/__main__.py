"""`python -m mqtt_bridge`: one bridge as a process."""

import sys

from mqtt_bridge.main import run

sys.exit(run())
