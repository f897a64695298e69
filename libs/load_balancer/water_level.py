"""At which level is one node full?

Think of water rising at the same level `t` (kW per unit of weight) in all leaves below a node. Of a leaf with weight `w`,
minimum `m` and most `r`, the part above its minimum is `clamp(w·t, m, r) − m`: nothing until `t = m / w`, then rising with
slope `w`, full at `t = r / w`. The node is full at the level where these parts together reach `free`, its capacity without
the minima. Seen from above the node, no leaf in it rises beyond that level.

A leaf is a `Rise`; a full node hands its still rising leaves upwards as one `Rise` that ends at the node's level, so work
shrinks on the way up. Edge cases: less asked for than there is: the level is infinite. Exactly as much (to `TIE`): the level
of the last leaf to be met, so nobody is curtailed by a rounding error. Nothing free: level 0.

Precision: a level is reckoned from sums of positive numbers (`fsum` for those that count), never by adding and subtracting
along the way, so weights of very different size do no harm.
"""

from bisect import bisect_left
from itertools import accumulate
from math import fsum, inf
from typing import Final

TIE: Final = 1e-11
"""Two powers or levels this close, relatively, are one: far above rounding errors, far below the promised 1e-9."""

Rise = tuple[float, float, float, float, float]
"""`(full_at, weight, gain_kw, starts_at, minimum_kw)`: levels at which it stops and starts to rise, and by how much it rises.

Without a minimum, `starts_at` and `minimum_kw` are 0.
"""


def fill(rises: list[Rise], free_kw: float, minima: bool) -> tuple[float, list[Rise]]:
    """The level at which `rises` fill `free_kw`, and the rises as the nodes above see them.

    In: the rises below one node (sorted in place), its capacity without minima, whether any rise has a minimum. Out: the
    level in kW per weight, infinite if they never fill it.
    """
    most_kw = fsum([rise[2] for rise in rises])
    if most_kw < free_kw * (1.0 - TIE):
        return inf, rises
    if most_kw <= free_kw * (1.0 + TIE):
        return max((rise[0] for rise in rises), default=0.0), rises
    rises.sort()
    return _fill_mixed(rises, free_kw) if minima else _fill_plain(rises, free_kw)


def _fill_plain(rises: list[Rise], free_kw: float) -> tuple[float, list[Rise]]:
    """Nobody has a minimum: find the first rise that is not met in full, by running sums over the sorted rises."""
    full_at, weights, gains, _, _ = zip(*rises, strict=True)
    met_before = list(accumulate(gains, initial=0.0))
    rising_from = list(accumulate(reversed(weights)))
    rising_from.reverse()
    first = bisect_left(range(len(rises) - 1), free_kw, key=lambda i: met_before[i] + full_at[i] * rising_from[i])
    weight = fsum(weights[first:])
    level = (free_kw - fsum(gains[:first])) / weight
    # Rounding may carry the quotient a hair outside the interval that was found.
    level = min(max(level, full_at[first - 1] if first else 0.0), full_at[first])
    return level, [*rises[:first], (level, weight, weight * level, 0.0, 0.0)]


def _fill_mixed(rises: list[Rise], free_kw: float) -> tuple[float, list[Rise]]:
    """Some have a minimum: find the interval between neighbouring bends in which the parts reach `free_kw`."""

    def gained(level: float) -> float:
        return fsum(
            [
                gain if level >= full_at else weight * level - minimum if level > starts_at else 0.0
                for full_at, weight, gain, starts_at, minimum in rises
            ]
        )

    bends = sorted({0.0, *(rise[0] for rise in rises), *(rise[3] for rise in rises)})
    above = bisect_left(range(1, len(bends) - 1), free_kw, key=lambda i: gained(bends[i])) + 1
    low, high = bends[above - 1], bends[above]
    met = [rise for rise in rises if rise[0] <= low]
    rising = [rise for rise in rises if rise[0] > low and rise[3] <= low]
    level = low  # only with nothing free does nobody rise here
    if rising:
        target = free_kw - fsum([rise[2] for rise in met]) + fsum([rise[4] for rise in rising])
        level = min(max(target / fsum([rise[1] for rise in rising]), low), high)
    # Minima stay apart, since they begin to rise at levels of their own; who never rises adds nothing further up.
    plain = fsum([weight for _, weight, _, _, minimum in rising if not minimum])
    lifted = [(level, weight, weight * level - minimum, start, minimum) for _, weight, _, start, minimum in rising if minimum]
    if plain:
        lifted.append((level, plain, plain * level, 0.0, 0.0))
    return level, met + lifted
