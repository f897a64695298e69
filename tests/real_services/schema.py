"""Bring a database to the newest migration, as `depotgrid db migrate` does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]
_MIGRATIONS = _REPOSITORY / "deploy" / "migrations" / "alembic.ini"


def migrate(url: str) -> None:
    """Alembic `upgrade head` on the database at `url`, in a process of its own; its output is the failure's text."""
    if not _MIGRATIONS.exists():
        return
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(_MIGRATIONS), "upgrade", "head"],
        cwd=_REPOSITORY,
        env={**os.environ, "DEPOTGRID_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"migrations failed:\n{done.stdout}{done.stderr}")
