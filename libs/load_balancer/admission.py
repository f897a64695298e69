"""Which leaves with a minimum get power at all?

A leaf with a minimum gets at least that or nothing. Candidates are taken by tier, within a tier the one longest without power
first (one that has power stands behind all that wait), then by id. Each is admitted if its minimum still fits under every
node above it beside those admitted before; one that does not fit is passed over, so a small minimum behind a large one still
gets its chance. Whoever waits longest in a tier is asked first next time: with `without_power_since` kept up to date nobody in
a tier starves. A minimum above the request admits nothing to that leaf and uses nobody's place. The minima of all admitted
leaves are set aside before the first tier shares anything.
"""

from datetime import UTC, datetime
from typing import Final

from load_balancer.exact_room import ExactRoom, units
from load_balancer.tree import Tree
from load_balancer.wishes import Wishes

_HAS_POWER: Final = datetime.max.replace(tzinfo=UTC)


def admit(tree: Tree, wishes: Wishes, room: ExactRoom) -> dict[int, int]:
    """Set the minima of the admitted aside in `room`.

    Out: the numbers of the demands not admitted, each with the position of the nearest node that lacked the room, or −1
    where the minimum is above the request.
    """
    refused: dict[int, int] = {}
    for tier in wishes.tiers:
        candidates = [number for number in tier if wishes.least_kw[number] > 0.0]
        candidates.sort(key=lambda number: _turn(tree, wishes, number))
        for number in candidates:
            minimum = wishes.least_kw[number]
            if minimum > wishes.requested_kw[number]:
                refused[number] = -1
                continue
            spot, amount = wishes.spots[number], units(minimum)
            lacking = room.shortage(spot, amount)
            if lacking < 0:
                room.take(spot, amount)
            else:
                refused[number] = lacking
    return refused


def _turn(tree: Tree, wishes: Wishes, number: int) -> tuple[bool, datetime, str]:
    since = wishes.demands[number].without_power_since
    return since is None, since or _HAS_POWER, tree.ids[wishes.spots[number]]
