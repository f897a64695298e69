"""Evidence on disk: written line by line, read back after whatever happened, and compared."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from depot_sim.diff import parting
from depot_sim.evidence import (
    CONFIRMED,
    EXPECTATIONS,
    INTERRUPTED,
    OUTCOMES,
    PACKETS,
    PASSED,
    RUNNING,
    EvidenceWriter,
    find_run,
    junit,
    list_runs,
)


def _written(runs: Path, name: str, **files: list[dict[str, Any]]) -> None:
    writer = EvidenceWriter(runs / name, {"scenario": "s"})
    for file, entries in files.items():
        for entry in entries:
            writer.add(f"{file}.jsonl", entry)
    writer.finish(PASSED)


def _packet(number: int, value: object = 1) -> dict[str, Any]:
    return {
        "n": number,
        "step": number,
        "at_s": number * 5.0,
        "report": number,
        "says": {"measurands": [{"key": "SOC", "value": value}]},
    }


def test_a_run_is_running_while_its_process_lives_and_then_what_it_said(tmp_path: Path) -> None:
    writer = EvidenceWriter(tmp_path / "r", {"scenario": "s"})
    running = find_run(tmp_path, "r")
    assert running is not None
    assert running.status == RUNNING
    writer.finish(PASSED, packets=3)
    ended = find_run(tmp_path, "r")
    assert ended is not None
    assert (ended.status, ended.about["packets"]) == (PASSED, 3)


def test_a_killed_simulator_leaves_what_it_knew(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from depot_sim.evidence import EvidenceWriter\n"
        "writer = EvidenceWriter(Path(sys.argv[1]), {'scenario': 's'})\n"
        "for n in range(5): writer.add('packets.jsonl', {'n': n})\n"
        "writer.add('confirmed.jsonl', {'n': 3})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "r")], check=False)
    run = find_run(tmp_path, "r")
    assert run is not None
    assert run.status == INTERRUPTED
    assert [entry["n"] for entry in run.lines(PACKETS)] == [0, 1, 2, 3, 4]
    assert [entry["n"] for entry in run.lines(CONFIRMED)] == [3]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    _written(tmp_path, "r", packets=[_packet(0)])
    with (tmp_path / "r" / PACKETS).open("a") as file:
        file.write('{"n": 1, "st')
    run = find_run(tmp_path, "r")
    assert run is not None
    assert [entry["n"] for entry in run.lines(PACKETS)] == [0]


@pytest.mark.parametrize("run_id", ["", "..", ".", "a/b", "../r", "nothing", ".hidden", "a\\b"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, run_id: str) -> None:
    _written(tmp_path / "runs", "r")
    assert find_run(tmp_path / "runs", run_id) is None


def test_runs_are_listed_the_oldest_first_and_other_files_left_out(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "none") == []
    for name in ("b", "a"):
        _written(tmp_path, name)
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    assert [run.run_id for run in list_runs(tmp_path)] == ["a", "b"]


_CHECKS = [
    {"at_s": 5.0, "asked": "card.DER", "held": True},
    {"at_s": 6.0, "asked": "card.DER", "held": False, "message": 'expected "ON" & seen <OFF>'},
]


def test_junit_says_what_failed_and_why() -> None:
    suite = ET.fromstring(junit("s", _CHECKS, None))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == 'expected "ON" & seen <OFF>'


def test_junit_says_that_a_run_ended_before_its_time() -> None:
    suite = ET.fromstring(junit("s", _CHECKS[:1], "the broker <is> gone"))
    assert (suite.get("tests"), suite.get("errors")) == ("2", "1")
    assert suite.findtext("testcase/error") == "the broker <is> gone"


_RUNS: list[tuple[dict[str, list[dict[str, Any]]], dict[str, list[dict[str, Any]]], tuple[str, int, int] | None]] = [
    ({"packets": [_packet(0), _packet(1)]}, {"packets": [_packet(0), _packet(1)]}, None),
    ({"packets": [_packet(0), _packet(1)]}, {"packets": [_packet(0), _packet(1, 2)]}, (PACKETS, 2, 1)),
    ({"packets": [_packet(0), _packet(1)]}, {"packets": [_packet(0)]}, (PACKETS, 2, 1)),
    ({"packets": [_packet(0)], "confirmed": [{"n": 0}]}, {"packets": [_packet(0)]}, (CONFIRMED, 1, 0)),
    (
        {"packets": [_packet(0), _packet(1)], "outcomes": [{"report": 1, "events": []}]},
        {"packets": [_packet(0), _packet(1)], "outcomes": [{"report": 1, "events": [1]}]},
        (OUTCOMES, 1, 1),
    ),
    (
        {"expectations": [{"step": 4, "at_s": 20.0, "seen": 1}]},
        {"expectations": [{"step": 4, "at_s": 20.0, "seen": 2}]},
        (EXPECTATIONS, 1, 4),
    ),
]


@pytest.mark.parametrize(("one", "other", "where"), _RUNS)
def test_two_runs_part_at_the_first_difference(
    tmp_path: Path, one: dict[str, list[dict[str, Any]]], other: dict[str, list[dict[str, Any]]], where: tuple[str, int, int] | None
) -> None:
    _written(tmp_path, "one", **one)
    _written(tmp_path, "other", **other)
    left, right = find_run(tmp_path, "one"), find_run(tmp_path, "other")
    assert left is not None
    assert right is not None
    found = parting(left, right)
    assert (None if found is None else (found.file, found.line, found.step)) == where


def test_a_difference_is_told_by_its_member(tmp_path: Path) -> None:
    _written(tmp_path, "one", packets=[_packet(2, 5)])
    _written(tmp_path, "other", packets=[_packet(2, 6)])
    found = parting(*list_runs(tmp_path))
    assert found is not None
    head, difference = found.told()
    assert "step 2, at 10s" in head
    assert difference == "  says.measurands[0].value: 5  |  6"
    assert json.dumps(found.differences) == '{"says.measurands[0].value": [5, 6]}'
