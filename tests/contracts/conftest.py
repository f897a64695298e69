"""What several contracts are held to: everything running at one address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.http_stack import Stack


@pytest.fixture(scope="package")
def stack(_run_folder: Path) -> Iterator[Stack]:
    """All processes, with a depot; whoever changes it restores it first."""
    folder = _run_folder / "contracts"
    folder.mkdir()
    with Stack(folder) as running:
        yield running
