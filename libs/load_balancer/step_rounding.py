"""How is a tier's allocation brought to whole steps?

Each share is rounded down to a multiple of `step_kw`; what that leaves over is handed out again, one step at a time: the
largest remainder first, ties by id, round after round until no step fits anywhere. A step is given only if it exceeds neither
the leaf's request nor any limit above it, reckoned exactly, so an allocation in steps never exceeds a limit by anything. A
minimum is rounded up to whole steps before admission; a leaf without a whole step between its minimum and its request gets
nothing.

A share that is a whole number of steps but for a rounding error counts as one step less with a full remainder, so that the
last step too has to fit. A step that binary floats cannot hold (0.1) may in an exact tie remain unused.
"""

from math import ceil, floor, ulp

from load_balancer.exact_room import ExactRoom, units
from load_balancer.power_tree import SMALLEST_STEP_KW
from load_balancer.tree import Tree, UnusableError, power
from load_balancer.water_level import TIE
from load_balancer.wishes import Wishes


def usable_step(step_kw: float) -> float:
    """`step_kw` as a float. Raises `UnusableError` if it is no power or too small to count in."""
    step = power(step_kw)
    if step < SMALLEST_STEP_KW:
        raise UnusableError
    return step


def steps_kw(count: int, step_kw: float) -> float:
    """`count` steps in kW, without the rounding error that multiplying may add (3 × 0.1 is 0.3)."""
    product = count * step_kw
    short = round(product, 12)
    return short if abs(short - product) <= 2.0 * ulp(product) else product


def round_up(power_kw: float, step_kw: float) -> float:
    """The smallest whole number of steps that is at least `power_kw`."""
    count = max(0, ceil(power_kw / step_kw) - 1)
    while steps_kw(count, step_kw) < power_kw:
        count += 1
    return steps_kw(count, step_kw)


def to_whole_steps(
    members: list[int], tree: Tree, wishes: Wishes, room: ExactRoom, given_kw: list[float], step_kw: float
) -> set[int]:
    """Bring what `members` are given to whole steps, in place; take what exceeds their minima from `room`.

    Out: the numbers of those who end with less than before.
    """
    before_kw = [given_kw[number] for number in members]
    counts: dict[int, int] = {}
    remainders: dict[int, float] = {}

    def grow(number: int, count: int) -> bool:
        wanted, spot = steps_kw(count, step_kw), wishes.spots[number]
        more = units(wanted) - units(given_kw[number])
        if wanted > wishes.requested_kw[number] or room.shortage(spot, more) >= 0:
            return False
        room.take(spot, more)
        given_kw[number], counts[number] = wanted, count
        return True

    for number in members:
        count, remainders[number] = _whole_and_rest(given_kw[number] / step_kw)
        given_kw[number] = wishes.least_kw[number]
        counts[number] = round(wishes.least_kw[number] / step_kw)
        while count > counts[number] and not grow(number, count):
            count -= 1
    waiting = sorted(members, key=lambda number: (-remainders[number], tree.ids[wishes.spots[number]]))
    while waiting:
        # Room only shrinks: where a step did not fit once, none will fit later.
        waiting = [number for number in waiting if grow(number, counts[number] + 1)]
    return {number for number, before in zip(members, before_kw, strict=True) if given_kw[number] < before * (1.0 - TIE)}


def _whole_and_rest(count: float) -> tuple[int, float]:
    nearest = round(count)
    if abs(count - nearest) <= TIE * max(1.0, count):
        return max(nearest - 1, 0), min(nearest, 1)
    return floor(count), round(count - floor(count), 9)  # equal remainders must tie although reckoned differently
