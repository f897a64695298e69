"""At which level is one node full?

Think of water rising at the same level `t` (kW per unit of weight) in all leaves below a node. Of a leaf with weight `w`,
minimum `m` and most `r`, the part above its minimum is `clamp(w·t, m, r) − m`: nothing until `t = m / w`, then rising with
slope `w`, full at `t = r / w`. The node is full at the level where these parts together reach `free`, its capacity without
the minima. Seen from above the node, no leaf in it rises beyond that level.

A node that is full hands its still rising leaves upwards as one rise that ends at the node's level, so work shrinks on the way
up. Edge cases: less asked for than there is: the level is infinite. Exactly as much (to `TIE`): the level of the last leaf to
be met, so nobody is curtailed by a rounding error. Nothing free: level 0.

Precision: a level is reckoned from sums of positive numbers (`fsum` for those that count), never by adding and subtracting
along the way, so weights of very different size do no harm.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from math import fsum, inf
from typing import Final

TIE: Final = 1e-11
"""Two powers or levels this close, relatively, are one: far above rounding errors, far below the promised 1e-9."""


@dataclass(slots=True)
class Rises:
    """What rises, in columns: the leaves by their number, then what full nodes hand upwards.

    It rises from level `starts_at` to level `full_at` with slope `weight`, by `gain_kw` in all, on top of `minimum_kw`; without
    a minimum it starts at 0. (Columns, because an object for each would be most of the time of a large site.)
    """

    weight: list[float]
    full_at: list[float] = field(init=False)
    gain_kw: list[float] = field(init=False)
    starts_at: list[float] = field(init=False)
    minimum_kw: list[float] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.weight)
        self.weight = self.weight.copy()
        self.full_at, self.gain_kw = [0.0] * count, [0.0] * count
        self.starts_at, self.minimum_kw = [0.0] * count, [0.0] * count

    def add(self, weight: float, full_at: float, minimum_kw: float = 0.0, starts_at: float = 0.0) -> int:
        """One more rise; its number."""
        self.weight.append(weight)
        self.full_at.append(full_at)
        self.gain_kw.append(weight * full_at - minimum_kw)
        self.starts_at.append(starts_at)
        self.minimum_kw.append(minimum_kw)
        return len(self.weight) - 1


def fill(numbers: list[int], rises: Rises, free_kw: float, minima: bool) -> tuple[float, list[int]]:
    """The level at which the rises `numbers` fill `free_kw`, and the rises that the nodes above see.

    In: the rises below one node (sorted in place), its capacity without minima, whether any rise has a minimum. Out: the level
    in kW per unit of weight, infinite if they never fill it.
    """
    most_kw = fsum(map(rises.gain_kw.__getitem__, numbers))
    if most_kw < free_kw * (1.0 - TIE):
        return inf, numbers
    if most_kw <= free_kw * (1.0 + TIE):
        return max((rises.full_at[number] for number in numbers), default=0.0), numbers
    numbers.sort(key=rises.full_at.__getitem__)
    return _fill_mixed(numbers, rises, free_kw) if minima else _fill_plain(numbers, rises, free_kw)


def _fill_plain(numbers: list[int], rises: Rises, free_kw: float) -> tuple[float, list[int]]:
    """Nobody has a minimum: find the first rise that is not met in full, by running sums over the sorted rises."""
    full_at = list(map(rises.full_at.__getitem__, numbers))
    weights = list(map(rises.weight.__getitem__, numbers))
    gains = list(map(rises.gain_kw.__getitem__, numbers))
    met_before = list(accumulate(gains, initial=0.0))
    rising_from = list(accumulate(reversed(weights)))
    rising_from.reverse()
    first = bisect_left(range(len(numbers) - 1), free_kw, key=lambda i: met_before[i] + full_at[i] * rising_from[i])
    weight = fsum(weights[first:])
    level = (free_kw - fsum(gains[:first])) / weight
    # Rounding may carry the quotient a hair outside the interval that was found.
    level = min(max(level, full_at[first - 1] if first else 0.0), full_at[first])
    return level, [*numbers[:first], rises.add(weight, level)]


def _fill_mixed(numbers: list[int], rises: Rises, free_kw: float) -> tuple[float, list[int]]:
    """Some have a minimum: find the interval between neighbouring bends in which the parts reach `free_kw`."""
    full_at, starts_at, weights = rises.full_at, rises.starts_at, rises.weight
    gains, minima = rises.gain_kw, rises.minimum_kw

    def gained(level: float) -> float:
        return fsum(
            [gains[n] if level >= full_at[n] else weights[n] * level - minima[n] if level > starts_at[n] else 0.0 for n in numbers]
        )

    bends = sorted({0.0, *(full_at[n] for n in numbers), *(starts_at[n] for n in numbers)})
    above = bisect_left(range(1, len(bends) - 1), free_kw, key=lambda i: gained(bends[i])) + 1
    low, high = bends[above - 1], bends[above]
    seen_from_above = [n for n in numbers if full_at[n] <= low]
    rising = [n for n in numbers if full_at[n] > low and starts_at[n] <= low]
    level = low  # only with nothing free does nobody rise here
    if rising:
        target = free_kw - fsum([gains[n] for n in seen_from_above]) + fsum([minima[n] for n in rising])
        level = min(max(target / fsum([weights[n] for n in rising]), low), high)
    # Minima stay apart, since they begin to rise at levels of their own; who never rises adds nothing further up.
    plain = [n for n in rising if not minima[n]]
    if plain:
        seen_from_above.append(rises.add(fsum([weights[n] for n in plain]), level))
    seen_from_above += [rises.add(weights[n], level, minima[n], starts_at[n]) for n in rising if minima[n]]
    return level, seen_from_above
