"""The site's rows as one tree, in arrays, and whether they are a tree at all.

Nodes stand in depth-first order with siblings by id, whatever order the rows came in: a parent before its children, and the
nodes below a node directly after it, up to `end`. A leaf is a node of the strategy's kind with none such below it. Under the
charger strategy connectors fold into their charge point: their base loads are added to its own, and the sum of their limits
limits it (a connector without a limit: no limit from them). Under the connector strategy a charge point without connectors is
a leaf itself, as its own single plug.

`arrange` only notices that something is wrong, quickly; `faults.py` then says what.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, inf
from operator import attrgetter
from typing import Final

from load_balancer.power_tree import MOST_KW, Limit, LimitSource, NodeKind, PowerNode, Strategy

LEAF_KINDS: Final = {
    Strategy.CONNECTOR: frozenset({NodeKind.CONNECTOR, NodeKind.CHARGE_POINT}),
    Strategy.CHARGER: frozenset({NodeKind.CHARGE_POINT}),
}
SOURCE_RANK: Final = {source: rank for rank, source in enumerate(LimitSource)}

_by_node_id = attrgetter("node_id")


class UnusableError(Exception):
    """The input is not a tree with demands on its leaves; never leaves the package."""


@dataclass(slots=True)
class Tree:
    """Columns over the nodes, in depth-first order. `limit_kw` is infinite where there is none; the root's parent is −1.

    `base_load_kw` is the sum over the node and all below; `end[i]` is the position after the last node below `i`;
    `leaf_at` gives a leaf's position by its id.
    """

    ids: list[str]
    kinds: list[NodeKind]
    parents: list[int]
    end: list[int]
    limit_kw: list[float]
    limit_source: list[LimitSource | None]
    base_load_kw: list[float]
    leaf_at: dict[str, int]


def arrange(nodes: Sequence[PowerNode], strategy: Strategy) -> Tree:
    """The rows as a `Tree`. Raises `UnusableError` (or what a wrongly typed row provokes) if they are none."""
    rows, parents, end = _depth_first(nodes)
    limits = [smallest(row.limits) for row in rows]
    base_load = [power(row.base_load_kw) for row in rows]
    kinds = [NodeKind(row.kind) for row in rows]
    leaves, below_leaves = _leaves(kinds, parents, LEAF_KINDS[strategy])
    if any(below_leaves):
        _fold(limits, base_load, parents, below_leaves)
        kept = [i for i, below in enumerate(below_leaves) if not below]
        place = {i: k for k, i in enumerate(kept)}
        dropped_before = [0]
        for below in below_leaves:
            dropped_before.append(dropped_before[-1] + below)
        rows, kinds = [rows[i] for i in kept], [kinds[i] for i in kept]
        limits, base_load = [limits[i] for i in kept], [base_load[i] for i in kept]
        parents = [place[parents[i]] if parents[i] >= 0 else -1 for i in kept]
        end = [end[i] - dropped_before[end[i]] for i in kept]
        leaves = [place[i] for i in leaves]
    ids = [row.node_id for row in rows]
    if any(base_load):
        base_load = [fsum(base_load[i : end[i]]) for i in range(len(ids))]
    return Tree(
        ids=ids,
        kinds=kinds,
        parents=parents,
        end=end,
        limit_kw=[limit for limit, _ in limits],
        limit_source=[source for _, source in limits],
        base_load_kw=base_load,
        leaf_at={ids[i]: i for i in leaves},
    )


def power(value: float) -> float:
    """`value` as a float if it is a power (not negative, not NaN, not beyond reckoning); else raises `UnusableError`."""
    if 0.0 <= value <= MOST_KW:
        return value + 0.0  # also turns −0.0 into 0.0 and an integer into a float
    raise UnusableError


def smallest(limits: Sequence[Limit]) -> tuple[float, LimitSource | None]:
    """The limit that counts and its source; infinite and `None` if there is none. Equal ones: by the order of `LimitSource`."""
    best_kw: float = inf
    best_source: LimitSource | None = None
    for limit in limits:
        source = limit.source
        rank = SOURCE_RANK[source]
        if limit.value_kw is None:
            continue
        value = power(limit.value_kw)
        if value < best_kw or (value == best_kw and best_source is not None and rank < SOURCE_RANK[best_source]):
            best_kw, best_source = value, LimitSource(source)
    return best_kw, best_source


def _depth_first(nodes: Sequence[PowerNode]) -> tuple[list[PowerNode], list[int], list[int]]:
    """The rows in depth-first order, each one's parent's position (root: −1) and the position after its last descendant."""
    rows = sorted(nodes, key=_by_node_id)
    known = {row.node_id for row in rows}
    below: dict[str, list[PowerNode]] = {}
    roots: list[PowerNode] = []
    for row in reversed(rows):
        if row.parent_id is None:
            roots.append(row)
        elif row.parent_id in known:
            below.setdefault(row.parent_id, []).append(row)
        else:
            raise UnusableError
    if len(known) != len(rows) or len(roots) != 1 or not all(type(row.node_id) is str for row in rows):
        raise UnusableError
    order: list[PowerNode] = []
    parents: list[int] = []
    place: dict[str, int] = {}
    waiting = roots
    while waiting:
        row = waiting.pop()
        parents.append(place[row.parent_id] if row.parent_id is not None else -1)
        children = below.get(row.node_id)
        if children is not None:
            place[row.node_id] = len(order)
            waiting.extend(children)
        order.append(row)
    if len(order) != len(rows):  # what the root does not reach hangs in a cycle
        raise UnusableError
    end = list(range(1, len(order) + 1))
    for i in range(len(order) - 1, 0, -1):
        parent = parents[i]
        if end[i] > end[parent]:
            end[parent] = end[i]
    return order, parents, end


def _leaves(kinds: list[NodeKind], parents: list[int], leaf_kinds: frozenset[NodeKind]) -> tuple[list[int], list[bool]]:
    """Positions of the leaves, and for each node whether it lies below one."""
    above_leaf = [False] * len(kinds)
    is_leaf = [False] * len(kinds)
    for i in range(len(kinds) - 1, -1, -1):
        if above_leaf[i] or kinds[i] in leaf_kinds:
            is_leaf[i] = not above_leaf[i]
            if i:
                above_leaf[parents[i]] = True
    below_leaf = [False] * len(kinds)
    for i in range(1, len(kinds)):
        below_leaf[i] = is_leaf[parents[i]] or below_leaf[parents[i]]
    return [i for i, leaf in enumerate(is_leaf) if leaf], below_leaf


def _fold(
    limits: list[tuple[float, LimitSource | None]], base_load: list[float], parents: list[int], below_leaf: list[bool]
) -> None:
    """Give each leaf the base loads, and as a limit the sum of the limits, of what lies below it (in place).

    Such a sum names the least physical of its sources, since that is why it is not the sum of the ratings.
    """
    sums: dict[int, list[tuple[float, LimitSource | None]]] = {}
    for i in range(len(parents) - 1, -1, -1):
        if i in sums:
            total = fsum([limit for limit, _ in sums[i]])
            if total < limits[i][0]:
                limits[i] = (total, max((source for _, source in sums[i] if source), key=SOURCE_RANK.__getitem__))
        if below_leaf[i]:
            base_load[parents[i]] += base_load[i]
            sums.setdefault(parents[i], []).append(limits[i])
