"""The page of measured faults: a whole run writes it anew, a run of some tests renews their rows and leaves the others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tests.faults.report_page import Run, page
from tests.real_services.comparison import FaultReport

_FIRST = FaultReport("worker kill -9 ×50, MQTT", 400_000, 400_000, 0, 0, 0, 0, 0, 3.14)
_SECOND = FaultReport("1 % poison", 20_000, 19_800, 200, 0, 0, 0, 0)
_RUN = Run(datetime(2026, 11, 21, 7, 5, tzinfo=UTC), "abc1234", "2 cores", is_whole=True, skipped={})


def _table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


def test_a_whole_run_writes_every_row_in_its_order_and_nothing_of_the_page_before() -> None:
    before = page([_FIRST], _RUN, "")
    text = page([_SECOND, replace(_FIRST, fault="another")], _RUN, before)
    assert _table(text) == [
        "| 1 % poison | 20,000 | 19,800 | 200 | 0 | 0 | 0 | 0 |  | `abc1234` |",
        "| another | 400,000 | 400,000 | 0 | 0 | 0 | 0 | 0 | 3.1 | `abc1234` |",
    ]
    assert "2026-11-21 07:05 UTC, at commit `abc1234`, on 2 cores." in text


def test_a_run_of_some_tests_renews_their_rows_in_place_and_leaves_the_others() -> None:
    before = page([_FIRST, _SECOND], _RUN, "")
    third = replace(_SECOND, fault="disk full")
    text = page([third, replace(_FIRST, lost=1)], replace(_RUN, commit="def5678", is_whole=False), before)
    assert _table(text) == [
        "| worker kill -9 ×50, MQTT | 400,000 | 400,000 | 0 | 1 | 0 | 0 | 0 | 3.1 | `def5678` |",
        "| 1 % poison | 20,000 | 19,800 | 200 | 0 | 0 | 0 | 0 |  | `abc1234` |",
        "| disk full | 20,000 | 19,800 | 200 | 0 | 0 | 0 | 0 |  | `def5678` |",
    ]


def test_the_same_run_gives_the_same_page_and_says_what_was_skipped_and_why() -> None:
    run = replace(_RUN, skipped={"test_b": "no root", "test_a": "no root"})
    text = page([_FIRST], run, "")
    assert text == page([_FIRST], replace(run, skipped={"test_a": "no root", "test_b": "no root"}), "something else")
    assert text.index("test_a (no root)") < text.index("test_b (no root)")
