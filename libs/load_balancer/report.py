"""From what was settled to what is told: rows, sums, reason codes.

A leaf that got all it asked for has no reason. Otherwise: `BASE_LOAD_EXCEEDS_LIMIT` if the node that holds it back has more
base load than limit; `MINIMUM_POWER_NOT_ADMITTED` if its minimum did not fit; the limit of the kind of node that holds it back;
`STEP_ROUNDING` if nothing but rounding does. The allocation lists the reasons of all leaves, `BASE_LOAD_EXCEEDS_LIMIT` also for
a node under which nobody asks, and `STEP_ROUNDING` whenever rounding took something from anyone.
"""

from collections.abc import Iterable
from functools import partial
from itertools import accumulate
from math import fsum, inf
from operator import itemgetter
from typing import Final

from load_balancer.allocation import LIMIT_REASON, Allocated, LeafAllocation, NodeAllocation, NodeRows, Outcome, ReasonCode
from load_balancer.settled import Settled
from load_balancer.tree import Tree
from load_balancer.water_level import TIE
from load_balancer.wishes import Wishes

_by_id = itemgetter(0)
# What `_make` does, less its check of the length, at a third of the time.
_leaf_row = partial(tuple.__new__, LeafAllocation)  # pyright: ignore[reportUnknownMemberType]
_node_row = partial(tuple.__new__, NodeAllocation)  # pyright: ignore[reportUnknownMemberType]

PRECEDENCE: Final = {code: rank for rank, code in enumerate(ReasonCode)}


def in_precedence(codes: Iterable[ReasonCode]) -> tuple[ReasonCode, ...]:
    """Each code once, the primary one first."""
    return tuple(sorted(set(codes), key=PRECEDENCE.__getitem__))


def report(tree: Tree, wishes: Wishes, settled: Settled, refused: dict[int, int], rounded_off: set[int]) -> Allocated:
    """The result, given who was refused admission and who lost something to rounding."""
    overloaded = {
        at for at, (limit, base) in enumerate(zip(tree.limit_kw, tree.base_load_kw, strict=True)) if base > limit * (1.0 + TIE)
    }
    reasons = _reasons(tree, wishes, settled, refused, rounded_off, overloaded)
    told = {reason for reason in reasons if reason}
    outcome = Outcome.CURTAILED if told else Outcome.APPLIED
    if overloaded:
        told.add(ReasonCode.BASE_LOAD_EXCEEDS_LIMIT)
    if rounded_off:
        told.add(ReasonCode.STEP_ROUNDING)
    return Allocated(
        outcome,
        _leaf_rows(tree, wishes, settled, reasons),
        NodeRows(partial(_node_rows, tree, wishes, settled)),
        in_precedence(told),
    )


def _reasons(
    tree: Tree,
    wishes: Wishes,
    settled: Settled,
    refused: dict[int, int],
    rounded_off: set[int],
    overloaded: set[int],
) -> list[ReasonCode | None]:
    """For each demand, the one reason why it was not met."""
    reason_at = [LIMIT_REASON[kind] for kind in tree.kinds]
    for at in overloaded:
        reason_at[at] = ReasonCode.BASE_LOAD_EXCEEDS_LIMIT
    reasons: list[ReasonCode | None] = list(map([*reason_at, None].__getitem__, settled.held_by))
    for number, lacking in refused.items():
        if lacking not in overloaded and wishes.requested_kw[number] > 0.0:
            reasons[number] = ReasonCode.MINIMUM_POWER_NOT_ADMITTED
    for number in rounded_off:
        reasons[number] = reasons[number] or ReasonCode.STEP_ROUNDING
    return reasons


def _leaf_rows(tree: Tree, wishes: Wishes, settled: Settled, reasons: list[ReasonCode | None]) -> tuple[LeafAllocation, ...]:
    # Nobody (−1) is found in the `None` that stands last.
    rows = zip(
        map(tree.ids.__getitem__, wishes.spots),
        settled.given_kw,
        wishes.requested_kw,
        wishes.minimum_kw,
        map([*tree.ids, None].__getitem__, settled.held_by),
        map([*tree.limit_source, None].__getitem__, settled.held_by),
        reasons,
        strict=True,
    )
    return tuple(sorted(map(_leaf_row, rows), key=_by_id))


def _node_rows(tree: Tree, wishes: Wishes, settled: Settled) -> tuple[NodeAllocation, ...]:
    allocated = [0.0] * len(tree.ids)
    demand = [0.0] * len(tree.ids)
    asks = [0] * len(tree.ids)
    for spot, given, requested in zip(wishes.spots, settled.given_kw, wishes.requested_kw, strict=True):
        allocated[spot], demand[spot], asks[spot] = given, requested, 1
    asked_before = list(accumulate(asks, initial=0))
    for at, end in enumerate(tree.end):
        if end > at + 1:
            first, last = asked_before[at], asked_before[end]
            allocated[at] = fsum(settled.given_kw[first:last])
            demand[at] = fsum(wishes.requested_kw[first:last])
    rows = zip(
        tree.ids,
        map([*tree.ids, None].__getitem__, tree.parents),
        tree.kinds,
        allocated,
        tree.base_load_kw,
        demand,
        [None if limit == inf else limit for limit in tree.limit_kw],
        tree.limit_source,
        settled.full,
        [None if level == inf else level for level in settled.level],
        strict=True,
    )
    return tuple(sorted(map(_node_row, rows), key=_by_id))
