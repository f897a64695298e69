"""What something was over time, on an even grid of moments, for charts.

A time range is cut into steps of equal length, from its beginning; the last one may be cut off by its end. A step's point stands
at the step's beginning and has the last value that was observed within the step: not a mean, so that a chart shows values that
were really reported, and making one costs one look per step however much was reported.

A step in which nothing was observed has no value (null), unless what is measured holds until it is said otherwise. Then the value
of the step before goes on: for `held_s` seconds from its observation to the step's beginning, or without end. A step that begins
after now never has a value by holding: what comes is not known. Before the first observation nothing is known. A value that was
reported as not known (null) is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

Value = bool | float | str
Point = tuple[datetime, Value | None]

NOT_HELD = 0.0
"""For what is measured from moment to moment: a step without an observation is a gap."""
HELD_FOR_GOOD = float("inf")
"""For what stays as it is until another event says so."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A value that was observed, None for one that was reported as not known."""

    observed_at: datetime
    value: Value | None


def number_of_points(since: datetime, until: datetime, step_s: int) -> int:
    """How many steps there are in a range, the last perhaps a short one."""
    return -((until - since) // -timedelta(seconds=step_s))


def points(
    observations: Iterable[Observation], since: datetime, until: datetime, step_s: int, held_s: float, now: datetime
) -> tuple[Point, ...]:
    """The points of a range; `until` is exclusive.

    `observations` come in the order in which a later one counts more. Those before `since` are for what holds; those from `until`
    on count for nothing.
    """
    step = timedelta(seconds=step_s)
    last_of: dict[int, Observation] = {}
    known: Observation | None = None
    for one in observations:
        if one.observed_at < since:
            known = one
        elif one.observed_at < until:
            last_of[(one.observed_at - since) // step] = one
    found: list[Point] = []
    for index in range(number_of_points(since, until, step_s)):
        moment = since + index * step
        observed = last_of.get(index)
        if observed is not None:
            known = observed
            found.append((moment, observed.value))
        else:
            holds = known is not None and moment <= now and (moment - known.observed_at).total_seconds() <= held_s
            found.append((moment, known.value if known is not None and holds else None))
    return tuple(found)
