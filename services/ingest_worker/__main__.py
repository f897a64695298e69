"""`python -m ingest_worker`: one ingest worker as a process."""

import sys

from ingest_worker.main import run

sys.exit(run())
