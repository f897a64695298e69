"""How fast a story is told: which moment of the story is which moment of the real clock.

`real` tells it as it is. `N×` tells it N times as fast, `fast` as fast as makes sense: a step takes `FAST_STEP_S`. The packets
carry the real clock's times, epoch + `real_s`, so that a story of a day told in ten seconds is never ahead of the product's
clock nor behind it. What hangs on that clock, the windows of real time, is told as it is at every pace. At the beginning and
where something is expected, the story waits `SETTLE_S` (not in windows and not at pace `real`), so that checking does not make
it late. The map is fixed before the run and depends on nothing but scenario and pace.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from depot_sim.scenario import Scenario

FAST_STEP_S = 0.02
SETTLE_S = 0.2
_TIMES = re.compile(r"([1-9][0-9]*(?:\.[0-9]+)?|0\.[0-9]*[1-9][0-9]*)[x×]")


@dataclass(frozen=True, slots=True)
class Pace:
    """How many seconds of the story pass in one real second; None is `fast`. ×1 is `real`."""

    times: float | None

    @property
    def name(self) -> str:
        """As it is written."""
        return "fast" if self.times is None else "real" if self.times == 1 else f"{self.times:g}×"


def read_pace(text: str) -> Pace | None:
    """The pace that `real`, `fast`, `60×` or `60x` stands for, None for anything else."""
    if text in ("real", "fast"):
        return Pace(1.0 if text == "real" else None)
    found = _TIMES.fullmatch(text)
    return Pace(float(found[1])) if found else None


class Pacing:
    """The map of one scenario at one pace."""

    def __init__(self, scenario: Scenario, pace: Pace) -> None:
        self._windows = scenario.real_time
        self._times = scenario.step_s / FAST_STEP_S if pace.times is None else pace.times
        pauses = {0.0, *(expectation.at_s for expectation in scenario.expectations)}
        self._pauses = sorted(at_s for at_s in pauses if self._times != 1 and not self.is_real(at_s))

    def is_real(self, at_s: float) -> bool:
        """Whether that moment of the story is told in real time whatever the pace."""
        return any(window.holds(at_s) for window in self._windows)

    def real_s(self, at_s: float) -> float:
        """Real seconds from the epoch to that moment of the story; may be asked for times behind the end."""
        real_s = at_s / self._times
        for window in self._windows:
            inside = min(max(at_s, window.from_s), window.to_s) - window.from_s
            real_s += inside - inside / self._times
        return round(real_s + SETTLE_S * sum(1 for pause in self._pauses if pause < at_s), 6)
