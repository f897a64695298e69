"""Who gets how much? The rule, then the code in the same order.

**The tree.** Power flows from the root to the leaves. A node's capacity is its limit less the base load at and below it; all
leaves below it together must stay within that, at every node at once.

**Fairness.** A leaf's share is its allocation divided by its weight. The allocation is the weighted max-min one: no leaf can
get more without a leaf with a smaller or equal share getting less. It is fairness among leaves under all limits at once, not
an even split at each level: a circuit with ten chargers gets more than one with two.

**How it is found.** Let one water level `t` rise in all leaves: a leaf takes `clamp(t × weight, minimum, requested)`. Bottom-up,
each node has a saturation level, the `t` at which what its children take adds up to its capacity; above that level nothing
below it rises. Top-down, a leaf stops at the smallest saturation level on its way to the root:

    allocated = clamp(weight × min(saturation level of every node above), minimum, requested)

and the node with that smallest level *is* the reason why it gets no more (of equal ones the nearest to the leaf). A leaf is
also a node: its own limit binds like any other. No iteration towards a solution, one pass up and one down: O(n · depth · log n).

**Tiers.** A policy ranks leaves in tiers and weighs them. Each tier shares what the tiers before it left.

**Minima.** A leaf with a minimum gets at least that or nothing. Who is admitted is decided first (`admission.py`); the minima
of all admitted leaves, of later tiers too, are set aside, and the tiers share the rest. A leaf at its minimum may so have a larger
share than a neighbour.

**Steps.** With `step_kw` each tier's allocation is brought to whole steps (`step_rounding.py`) before the next tier's turn.

**Edges.** No limit is unlimited, 0 is nothing. A base load above the limit: the leaves below get nothing, and the result says
`BASE_LOAD_EXCEEDS_LIMIT` (the base load still uses the nodes above). Demand equal to capacity, up to a rounding error, is met.
A request of 0 is met by 0. An input that cannot be balanced is `Rejected`, never an exception. Input order never matters: all
is sorted by id first and sums are exact.
"""

from collections.abc import Iterable
from math import fsum, inf
from typing import Final

from load_balancer.admission import admit
from load_balancer.allocation import Allocated, Rejected
from load_balancer.exact_room import ExactRoom
from load_balancer.faults import rejected
from load_balancer.policies import Policy
from load_balancer.power_tree import Demand, PowerNode, Strategy
from load_balancer.report import report
from load_balancer.settled import Settled
from load_balancer.step_rounding import round_up, to_whole_steps, usable_step
from load_balancer.tree import Tree, UnusableError, arrange
from load_balancer.water_level import TIE, Rises, fill
from load_balancer.wishes import Wishes, read_wishes

_BELOW: Final = 1.0 - TIE
_ABOVE: Final = 1.0 + TIE


def allocate(
    nodes: Iterable[PowerNode],
    demands: Iterable[Demand],
    *,
    strategy: Strategy = Strategy.CONNECTOR,
    policy: Policy = Policy.EQUAL,
    step_kw: float | None = None,
) -> Allocated | Rejected:
    """Share the site's power among the leaves that ask for it, and say why each gets what it gets.

    In: the site's rows and at most one demand per leaf, in any order; to whom (`strategy`), by which ranking (`policy`); and
    the step that allocations are multiples of (kW; `None`: any value). Out: `Allocated`, or `Rejected` where the input cannot
    be balanced. Raises nothing, whatever the rows hold.
    """
    nodes, demands = tuple(nodes), tuple(demands)
    try:
        tree = arrange(nodes, Strategy(strategy))
        wishes = read_wishes(tree, demands, Policy(policy))
        if step_kw is not None:
            step_kw = usable_step(step_kw)
            wishes.least_kw = [round_up(minimum, step_kw) for minimum in wishes.minimum_kw]
    except (UnusableError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
        return rejected(nodes, demands, strategy, policy, step_kw)
    settled = _nothing_given(tree, wishes)
    refused: dict[int, int] = {}
    room: ExactRoom | None = None
    if step_kw is not None or any(wishes.least_kw):
        room = ExactRoom(tree, slack=0.0 if step_kw is not None else TIE)
        refused = admit(tree, wishes, room)
        _set_minima_aside(tree, wishes, refused, settled)
    rounded_off: set[int] = set()
    for tier in wishes.tiers:
        members = [number for number in tier if number not in refused] if refused else tier
        above = _nodes_above(members, tree.parents, wishes.spots)
        _share_among(members, above, tree, wishes, settled)
        if room is not None and step_kw is not None:
            rounded_off |= to_whole_steps(members, tree, wishes, room, settled.given_kw, step_kw)
            _after_rounding(members, above, room, wishes, settled)
    return report(tree, wishes, settled, refused, rounded_off)


def _nothing_given(tree: Tree, wishes: Wishes) -> Settled:
    """The state before anyone got anything: each node's capacity is free."""
    free_kw = tree.limit_kw
    if any(tree.base_load_kw):
        free_kw = [max(0.0, limit - base) for limit, base in zip(free_kw, tree.base_load_kw, strict=True)]
    return Settled(
        given_kw=[0.0] * len(wishes.spots),
        held_by=[-1] * len(wishes.spots),
        free_kw=free_kw.copy(),
        level=[0.0 if free == 0.0 else inf for free in free_kw],
        full=[free == 0.0 for free in free_kw],
        rises=Rises(wishes.weight),
    )


def _set_minima_aside(tree: Tree, wishes: Wishes, refused: dict[int, int], settled: Settled) -> None:
    """Give every admitted leaf its minimum, out of what is free under it and under every node above."""
    aside_kw = [0.0] * len(tree.ids)
    for number, (spot, minimum) in enumerate(zip(wishes.spots, wishes.least_kw, strict=True)):
        if number in refused:
            settled.held_by[number] = refused[number]
        else:
            settled.given_kw[number] = aside_kw[spot] = minimum
    for at, end in enumerate(tree.end):
        settled.free_kw[at] = max(0.0, settled.free_kw[at] - fsum(aside_kw[at:end]))


def _after_rounding(members: list[int], above: list[int], room: ExactRoom, wishes: Wishes, settled: Settled) -> None:
    """Note what steps have changed: what is free, and whose demand a step from the remainder has met after all."""
    for at in above:
        settled.free_kw[at] = room.left_kw(at)
    for number in members:
        if settled.given_kw[number] == wishes.requested_kw[number]:
            settled.held_by[number] = -1


def _nodes_above(members: list[int], parents: list[int], spots: list[int]) -> list[int]:
    """Every node that has one of the leaves `members` below it, each before its children."""
    seen: set[int] = {-1}
    for number in members:
        at = parents[spots[number]]
        while at not in seen:
            seen.add(at)
            at = parents[at]
    seen.remove(-1)
    return sorted(seen)


def _share_among(members: list[int], above: list[int], tree: Tree, wishes: Wishes, settled: Settled) -> None:
    """Share what is free among the leaves of one tier, on top of the minima they hold already."""
    level = _saturation_levels(members, above, tree.parents, wishes, settled)
    holder = _smallest_on_the_way_up(above, level, tree.parents, settled)
    used_kw = _settle_leaves(members, level, holder, tree.parents, wishes, settled)
    for at in reversed(above):
        used_kw[tree.parents[at]] += used_kw[at]
        settled.free_kw[at] = 0.0 if settled.full[at] else max(0.0, settled.free_kw[at] - used_kw[at])


def _saturation_levels(
    members: list[int], above: list[int], parents: list[int], wishes: Wishes, settled: Settled
) -> dict[int, float]:
    """Bottom-up: the level at which each of the nodes `above` the leaves is full; infinite where they never fill it."""
    below: dict[int, list[int]] = {at: [] for at in above}
    below[-1] = []  # what goes on rising above the root holds nobody back
    spots, requested_kw, rises = wishes.spots, wishes.requested_kw, settled.rises
    given_kw, free_kw, weight, full_at, gain_kw = settled.given_kw, settled.free_kw, rises.weight, rises.full_at, rises.gain_kw
    minima = False
    for number in members:
        spot, top, least = spots[number], requested_kw[number], given_kw[number]
        if top > least + free_kw[spot]:
            top = least + free_kw[spot]
        if top > least:
            full_at[number] = top / weight[number]
            gain_kw[number] = top - least
            below[parents[spot]].append(number)
            if least:
                minima = True
                rises.starts_at[number], rises.minimum_kw[number] = least / weight[number], least
    level: dict[int, float] = {}
    for at in reversed(above):
        level[at], seen_from_above = fill(below[at], rises, free_kw[at], minima)
        below[parents[at]] += seen_from_above
    return level


def _smallest_on_the_way_up(above: list[int], level: dict[int, float], parents: list[int], settled: Settled) -> dict[int, int]:
    """Top-down: lower each node's level to the smallest on its way to the root. Out: which node that level comes from."""
    level[-1] = inf
    holder = {-1: -1}
    for at in above:
        own, parent = level[at], parents[at]
        from_above = level[parent]
        if settled.level[at] == inf:  # later tiers only find it full
            settled.level[at] = own
        if own < inf and own <= from_above * _ABOVE:
            level[at], holder[at] = min(own, from_above), at
            settled.full[at] = True
        else:
            level[at], holder[at] = from_above, holder[parent]
    return holder


def _settle_leaves(
    members: list[int],
    level: dict[int, float],
    holder: dict[int, int],
    parents: list[int],
    wishes: Wishes,
    settled: Settled,
) -> dict[int, float]:
    """Give each leaf what its request, its own limit and the water level allow, and note what holds it back.

    Out: how much more than before went through each node that is a parent of leaves; 0 for the others.
    """
    spots, requested_kw, weights = wishes.spots, wishes.requested_kw, wishes.weight
    given_kw, held_by, free_kw = settled.given_kw, settled.held_by, settled.free_kw
    used_kw = dict.fromkeys(level, 0.0)
    for number in members:
        spot, requested, least = spots[number], requested_kw[number], given_kw[number]
        parent = parents[spot]
        top, water, own_limit = requested, weights[number] * level[parent], least + free_kw[spot]
        if requested >= own_limit * _BELOW:
            top = min(requested, own_limit)
            settled.level[spot] = top / weights[number] if top else 0.0
            settled.full[spot] = top <= least or top <= water * _ABOVE
        if top > least and top > water * _ABOVE:
            given = max(least, water)
            held_by[number] = holder[parent]
        elif requested <= top * _ABOVE:
            given = requested
        else:
            given = top
            held_by[number] = spot
        given_kw[number] = given
        used_kw[parent] += given - least
    return used_kw
