"""The site's rows as one tree, in arrays, and whether they are a tree at all.

Nodes stand in depth-first order with siblings by id, whatever order the rows came in: a parent before its children, and the
nodes below a node directly after it, up to `end`. A leaf is a node of the strategy's kind with none such below it. Under the
charger strategy connectors fold into their charge point: their base loads are added to its own, and the sum of their limits
limits it (a connector without a limit: no limit from them). Under the connector strategy a charge point without connectors is
a leaf itself, as its own single plug.

`arrange` only notices that something is wrong, quickly; `faults.py` then says what.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import fsum, inf
from operator import attrgetter
from typing import Final

from load_balancer.power_tree import MOST_KW, LimitSource, NodeKind, PowerNode, Strategy

LEAF_KINDS: Final = {
    Strategy.CONNECTOR: frozenset({NodeKind.CONNECTOR, NodeKind.CHARGE_POINT}),
    Strategy.CHARGER: frozenset({NodeKind.CHARGE_POINT}),
}
# Looked up, not called: a string in place of a member is accepted too, anything else is a KeyError, at a tenth of the time.
KINDS: Final = {kind: kind for kind in NodeKind}
SOURCES: Final = {source: source for source in LimitSource}
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
    ids = [row.node_id for row in rows]
    kinds = [KINDS[row.kind] for row in rows]
    limit_kw, limit_source = _smallest_limits(rows)
    base_load = [power(row.base_load_kw) for row in rows]
    leaf_kinds = LEAF_KINDS[strategy]
    candidates = [i for i, kind in enumerate(kinds) if kind in leaf_kinds]
    leaves = [i for i, following in zip(candidates, [*candidates[1:], len(ids)], strict=False) if following >= end[i]]
    tree = Tree(
        ids=ids,
        kinds=kinds,
        parents=parents,
        end=end,
        limit_kw=limit_kw,
        limit_source=limit_source,
        base_load_kw=base_load,
        leaf_at={ids[i]: i for i in leaves},
    )
    if any(end[i] > i + 1 for i in leaves):
        tree = _folded(tree)
    if any(base_load):
        tree.base_load_kw = [fsum(tree.base_load_kw[i:end]) for i, end in enumerate(tree.end)]
    return tree


def power(value: float) -> float:
    """`value` as a float if it is a power (not negative, not NaN, not beyond reckoning); else raises `UnusableError`."""
    if 0.0 <= value <= MOST_KW:
        return value + 0.0  # also turns −0.0 into 0.0 and an integer into a float
    raise UnusableError


def _smallest_limits(rows: list[PowerNode]) -> tuple[list[float], list[LimitSource | None]]:
    """For each row the limit that counts and its source; infinite and `None` where there is none.

    Of equal ones the source that stands first in `LimitSource` is named.
    """
    limit_kw: list[float] = []
    limit_source: list[LimitSource | None] = []
    for row in rows:
        best_kw: float = inf
        best_source: LimitSource | None = None
        for limit in row.limits:
            value, source = limit.value_kw, SOURCES[limit.source]
            if value is None:
                continue
            value = power(value)
            if value < best_kw or (value == best_kw and best_source and SOURCE_RANK[source] < SOURCE_RANK[best_source]):
                best_kw, best_source = value, source
        limit_kw.append(best_kw)
        limit_source.append(best_source)
    return limit_kw, limit_source


def _depth_first(nodes: Sequence[PowerNode]) -> tuple[list[PowerNode], list[int], list[int]]:
    """The rows in depth-first order, each one's parent's position (root: −1) and the position after its last descendant."""
    below: defaultdict[str | None, list[PowerNode]] = defaultdict(list)
    for row in sorted(nodes, key=_by_node_id, reverse=True):
        below[row.parent_id].append(row)
    waiting = below.pop(None, [])
    ids = [row.node_id for row in nodes]
    if len(waiting) != 1 or len(set(ids)) != len(ids) or not "".join(ids):  # joining finds an id that is not text
        raise UnusableError
    order: list[PowerNode] = []
    parents: list[int] = []
    place: dict[str | None, int] = {None: -1}
    while waiting:
        row = waiting.pop()
        parents.append(place[row.parent_id])
        children = below.get(row.node_id)
        if children is not None:
            place[row.node_id] = len(order)
            waiting.extend(children)
        order.append(row)
    if len(order) != len(nodes):  # what the root does not reach is an orphan or hangs in a cycle
        raise UnusableError
    end = list(range(1, len(order) + 1))
    for i in range(len(order) - 1, 0, -1):
        parent = parents[i]
        if end[i] > end[parent]:
            end[parent] = end[i]
    return order, parents, end


def _folded(tree: Tree) -> Tree:
    """The tree without what lies below its leaves, each leaf having taken over its base load and the sum of its limits.

    Such a sum names the least physical of its sources, since that is why it is not the sum of the ratings.
    """
    kept = [True] * len(tree.ids)
    for leaf in tree.leaf_at.values():
        for at in range(leaf, tree.end[leaf]):
            kept[at] = at == leaf
        tree.base_load_kw[leaf] = fsum(tree.base_load_kw[leaf : tree.end[leaf]])
    below: defaultdict[int, list[int]] = defaultdict(list)
    for at in range(len(kept) - 1, -1, -1):
        if at in below:
            total = fsum([tree.limit_kw[child] for child in below[at]])
            if total < tree.limit_kw[at]:
                sources = (tree.limit_source[child] for child in below[at])
                tree.limit_kw[at] = total
                tree.limit_source[at] = max((source for source in sources if source), key=SOURCE_RANK.__getitem__)
        if not kept[at]:
            below[tree.parents[at]].append(at)
    place = list(accumulate(kept, initial=0))
    stays = [at for at, keep in enumerate(kept) if keep]
    return Tree(
        ids=[tree.ids[at] for at in stays],
        kinds=[tree.kinds[at] for at in stays],
        parents=[place[tree.parents[at]] if at else -1 for at in stays],
        end=[place[tree.end[at]] for at in stays],
        limit_kw=[tree.limit_kw[at] for at in stays],
        limit_source=[tree.limit_source[at] for at in stays],
        base_load_kw=[tree.base_load_kw[at] for at in stays],
        leaf_at={leaf: place[at] for leaf, at in tree.leaf_at.items()},
    )
