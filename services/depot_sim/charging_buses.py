"""The buses of a depot over a day: when each is at its charger, and what it draws there.

Each charger has one bus. In the small hours the bus is there with part of its need left, leaves between 5:00 and 7:30, comes
back between 17:00 and 21:00 with its whole need. Every other bus also comes by for a top-up between 10:30 and 13:00, for at
most two hours. A bus draws the charger's power until its need is delivered, and less where all together may not have more than
is allowed: then each gets the same share of what it asks. What a bus still lacks when it leaves is forgotten. All choices come
from the seed and the bus's number, so that no order of questions changes them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

_DAY_H = 24.0
_TOP_UP_SHARE = 0.3
_START = "start"


@dataclass(frozen=True, slots=True)
class _Habits:
    leaves_h: float
    returns_h: float
    top_up_h: float | None
    need_kwh: float
    left_at_night: float


class ChargingBuses:
    """`count` buses at chargers of `charger_kw` each; needs between `least_kwh` and `most_kwh`."""

    def __init__(self, seed: int, count: int, charger_kw: float, least_kwh: float, most_kwh: float) -> None:
        self._charger_kw = charger_kw
        self._habits = [_habits(seed, number, least_kwh, most_kwh) for number in range(count)]
        self._need_kwh = [habits.need_kwh * habits.left_at_night for habits in self._habits]
        self._was: list[str | None] = [_START] * count
        self.delivered_kwh = 0.0
        """What all buses have been given since the beginning."""

    def step(self, hour: float, hours: float, allowed_kw: float | None) -> list[float]:
        """Each bus's power in kW for `hours` from `hour` on (of the depot's day, past 24 too); `allowed_kw` None is no bound."""
        asked = [self._asked(number, hour, hours) for number in range(len(self._habits))]
        total = sum(asked)
        share = 1.0 if allowed_kw is None or total <= allowed_kw else allowed_kw / total
        given = [power * share for power in asked]
        for number, power in enumerate(given):
            self._need_kwh[number] = max(0.0, self._need_kwh[number] - power * hours)
        self.delivered_kwh += sum(given) * hours
        return given

    def _asked(self, number: int, hour: float, hours: float) -> float:
        habits = self._habits[number]
        stay = _stay(habits, hour % _DAY_H)
        if stay != self._was[number]:
            if stay is not None and self._was[number] != _START:
                self._need_kwh[number] = habits.need_kwh * (_TOP_UP_SHARE if stay == "top-up" else 1.0)
            self._was[number] = stay
        return min(self._charger_kw, self._need_kwh[number] / hours) if stay is not None else 0.0


def _stay(habits: _Habits, hour: float) -> str | None:
    if hour < habits.leaves_h or hour >= habits.returns_h:
        return "night"
    if habits.top_up_h is not None and habits.top_up_h <= hour < habits.top_up_h + 2:
        return "top-up"
    return None


def _habits(seed: int, number: int, least_kwh: float, most_kwh: float) -> _Habits:
    chance = random.Random(f"{seed}/bus/{number}")
    return _Habits(
        leaves_h=chance.uniform(5.0, 7.5),
        returns_h=chance.uniform(17.0, 21.0),
        top_up_h=chance.uniform(10.5, 13.0) if number % 2 else None,
        need_kwh=chance.uniform(least_kwh, most_kwh),
        left_at_night=chance.uniform(0.1, 0.6),
    )
