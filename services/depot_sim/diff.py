"""Where two runs part: the first packet that differs, or else the first outcome, expectation or final state that does.

Packets come first, since whatever was said otherwise explains everything after it; then what was confirmed, what became of each
packet, what was expected and seen, and how the depot stood in the end. Within a file the first line that differs is told, with
the step it belongs to and the members that differ. A run that ended early parts from the other where its evidence ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, cast

from depot_sim.evidence import CONFIRMED, EXPECTATIONS, OUTCOMES, PACKETS, STATE, Run

_ORDER = (PACKETS, CONFIRMED, OUTCOMES, EXPECTATIONS, STATE)


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two runs part: in which file, at which line (from 1) and step, and what each says there, by the path of the member."""

    file: str
    line: int
    step: int | None
    at_s: float | None
    differences: Mapping[str, tuple[Any, Any]]

    def told(self) -> list[str]:
        """For a person, a line each."""
        where = f"step {self.step}, at {self.at_s:g}s" if self.step is not None and self.at_s is not None else "the end"
        head = f"the runs part at {where} ({self.file}, line {self.line})"
        return [head, *(f"  {path}: {_text(one)}  |  {_text(other)}" for path, (one, other) in self.differences.items())]


def parting(one: Run, other: Run) -> Parting | None:
    """The first place where two runs part, None where they tell the same."""
    for file in _ORDER:
        pairs = zip_longest(one.lines(file), other.lines(file))
        for line, (left, right) in enumerate(pairs, 1):
            if left != right:
                step, at_s = _moment(one if left is not None else other, file, cast("Mapping[str, Any]", left or right))
                return Parting(file, line, step, at_s, dict(_differences("", left, right)))
    return None


def _moment(run: Run, file: str, entry: Mapping[str, Any]) -> tuple[int | None, float | None]:
    if file == STATE:
        return None, None
    if "step" in entry:
        return entry["step"], entry["at_s"]
    key = "n" if file == CONFIRMED else "report"
    found = next((packet for packet in run.lines(PACKETS) if packet[key] == entry[key]), None)
    return (found["step"], found["at_s"]) if found is not None else (None, None)


def _differences(path: str, one: Any, other: Any) -> list[tuple[str, tuple[Any, Any]]]:
    if isinstance(one, dict) and isinstance(other, dict):
        left, right = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        return [
            found
            for name in {**left, **right}
            for found in _differences(f"{path}.{name}" if path else name, left.get(name), right.get(name))
        ]
    if isinstance(one, list) and isinstance(other, list):
        items = zip_longest(cast("list[Any]", one), cast("list[Any]", other))
        return [found for index, pair in enumerate(items) for found in _differences(f"{path}[{index}]", *pair)]
    return [] if one == other else [(path or "entry", (one, other))]


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
