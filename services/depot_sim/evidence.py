"""What a run leaves behind, in its own folder, written so that whatever dies leaves what was known until then.

| file | what it holds | the same in every run of a scenario and seed |
|---|---|---|
| `run.json` | which run it is, when and by what way, and how it ended | no |
| `sent.jsonl` | each packet's id, time on the wire and hash, before it is sent | no |
| `packets.jsonl` | each packet before it is sent: step, time, topic, state, what befell it, what it says | yes |
| `confirmed.jsonl` | each packet's number once it is confirmed | yes |
| `expectations.jsonl` | each expectation once it is checked: what was expected, what was seen | yes, where all hold |
| `outcomes.jsonl` | what became of each packet, read back at the end | yes |
| `state.json` | the depot's card at the end, without times and ids | yes |
| `junit.xml` | the expectations as test cases | yes, where all hold |

Times are seconds of the story from its beginning. A line goes to the operating system before the packet does, and its
confirmation when it comes: a killed simulator leaves all of it, and `confirmed.jsonl` says up to where.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from xml.sax.saxutils import escape, quoteattr

RUN, PACKETS, SENT, CONFIRMED = "run.json", "packets.jsonl", "sent.jsonl", "confirmed.jsonl"
EXPECTATIONS, OUTCOMES, STATE, JUNIT = "expectations.jsonl", "outcomes.jsonl", "state.json", "junit.xml"
COMPARED = (PACKETS, CONFIRMED, EXPECTATIONS, OUTCOMES, STATE)
RUNNING, PASSED, FAILED, ABORTED, INTERRUPTED = "RUNNING", "PASSED", "FAILED", "ABORTED", "INTERRUPTED"


class EvidenceWriter:
    """Writes the evidence of one run into a new folder."""

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._about = {**about, "status": RUNNING, "pid": os.getpid()}
        self._open: dict[str, TextIO] = {}
        self._write_run()

    def add(self, file: str, entry: Mapping[str, Any]) -> None:
        """Add a line; it is the operating system's before this returns."""
        stream = self._open.get(file)
        if stream is None:
            stream = self._open[file] = (self.folder / file).open("a", encoding="utf-8")
        stream.write(f"{line_of(entry)}\n")
        stream.flush()

    def write(self, file: str, text: str) -> None:
        """Write a file whole, or not at all."""
        fresh = self.folder / f".{file}.new"
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self.folder / file)

    def finish(self, status: str, **more: Any) -> None:
        """Say how it ended; the evidence is complete then."""
        for stream in self._open.values():
            stream.close()
        self._about = {**self._about, "status": status, **more}
        self._write_run()

    def _write_run(self) -> None:
        self.write(RUN, json.dumps(self._about, indent=1, ensure_ascii=False) + "\n")


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder as it is found; `about` is its `run.json`."""

    folder: Path
    about: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def status(self) -> str:
        """How it ended; INTERRUPTED where nobody is left who could say."""
        status = str(self.about.get("status", INTERRUPTED))
        return INTERRUPTED if status == RUNNING and not _lives(int(self.about.get("pid", 0))) else status

    def lines(self, file: str) -> Iterator[Mapping[str, Any]]:
        """The entries of one of the files, none where it is not there; a last line that was cut off is left out."""
        try:
            stream = (self.folder / file).open(encoding="utf-8")
        except FileNotFoundError:
            return
        with stream:
            for line in stream:
                if line.endswith("\n"):
                    yield json.loads(line)


def find_run(runs: Path, run_id: str) -> Run | None:
    """The run of that id, or None where there is none; `run_id` may be any text."""
    if not run_id or "/" in run_id or "\\" in run_id or run_id.startswith("."):
        return None
    try:
        return Run(runs / run_id, json.loads((runs / run_id / RUN).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def list_runs(runs: Path) -> list[Run]:
    """All runs, the oldest first."""
    names = sorted(entry.name for entry in runs.iterdir()) if runs.is_dir() else []
    return [run for name in names if (run := find_run(runs, name)) is not None]


def line_of(entry: Mapping[str, Any]) -> str:
    """An entry as the one line of JSON that it always is."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))


def junit(scenario: str, checks: Iterable[Mapping[str, Any]], aborted: str | None) -> str:
    """The expectations as JUnit XML; `aborted` says why a run ended before its time."""
    cases: list[str] = []
    failures = 0
    for check in checks:
        title = f"at {check['at_s']:g}s {check['asked']}"
        head = f"  <testcase classname={quoteattr(scenario)} name={quoteattr(title)}"
        if check["held"]:
            cases.append(f"{head}/>")
        else:
            failures += 1
            cases.append(f"{head}>\n    <failure message={quoteattr(str(check['message']))}/>\n  </testcase>")
    errors = 0
    if aborted is not None:
        errors = 1
        head = f"  <testcase classname={quoteattr(scenario)} name={quoteattr('the run comes to its end')}>"
        cases.append(f"{head}\n    <error>{escape(aborted)}</error>\n  </testcase>")
    counts = f'tests="{len(cases)}" failures="{failures}" errors="{errors}"'
    body = "".join(f"{case}\n" for case in cases)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name={quoteattr(scenario)} {counts}>\n{body}</testsuite>\n'


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0
