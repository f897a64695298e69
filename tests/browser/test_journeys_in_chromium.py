"""Journeys through the web pages as people make them, in a real Chromium, signed in, against a stack of their own.

What is walked through stands in the modules `journey_*.mjs` beside this one; each is a run of Node's own test runner.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.test_pages_in_chromium import Stack, admin_token, faults_in_chromium, running

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def journeys_stack(_run_folder: Path) -> Iterator[Stack]:
    """A stack that wants to know who asks, and whose pages nobody else is at."""
    with running(_run_folder / "browser-journeys", "dev") as stack:
        yield stack


@pytest.mark.parametrize("module", sorted(path.name for path in Path(__file__).parent.glob("journey_*.mjs")))
def test_a_journey_through_the_pages_comes_to_its_end(journeys_stack: Stack, module: str) -> None:
    faults = faults_in_chromium(module, journeys_stack, admin_token(journeys_stack))
    assert not faults, faults
