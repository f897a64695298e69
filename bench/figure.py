"""One line of the table that `make bench` prints: what was measured, what was seen, and the limit that it is held to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

_WORDS = {True: "held", False: "missed", None: ""}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure beside its limit; `held` is None where there is nothing to hold.

    `values` are the bare numbers behind `seen`, for `build/bench.json`.
    """

    name: str
    seen: str
    limit: str
    held: bool | None
    values: Mapping[str, object] = field(default_factory=dict[str, object])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def table(title: str, figures: Iterable[Figure]) -> Table:
    """The figures for people to read."""
    shown = Table(title=title)
    for heading in ("figure", "seen", "limit", ""):
        shown.add_column(heading)
    for figure in figures:
        shown.add_row(figure.name, figure.seen, figure.limit, _WORDS[figure.held])
    return shown
