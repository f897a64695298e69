"""What exactly is wrong with an input that cannot be balanced, and which nodes are at fault?

Called only after the quick checks have refused an input, so it may take its time: it looks at every row and names every
fault. `INVALID_TOPOLOGY` for the nodes: an id twice, a parent that does not exist (orphan), no root or several, a cycle (its
members only, not what hangs below), a kind or limit source that there is none of, a power that is negative, not finite or
beyond reckoning. `INVALID_DEMAND` for the demands: an unknown leaf, a second demand for a leaf, such a power, a weight of 0, a
time without an offset; and for a strategy, policy or step that there is none of. Nothing in here raises, whatever the rows
hold; an id that is not text is named as Python would print it.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from load_balancer.allocation import ReasonCode, Rejected
from load_balancer.policies import Policy
from load_balancer.power_tree import MOST_KW, SMALLEST_STEP_KW, WEIGHTS, Demand, LimitSource, NodeKind, PowerNode, Strategy
from load_balancer.report import PRECEDENCE, in_precedence
from load_balancer.tree import UnusableError, arrange

Fault = tuple[ReasonCode, str | None, str]
"""The code, the id at fault (`None`: no node is), and what is wrong, to follow after the id."""

_TOPOLOGY: Final = ReasonCode.INVALID_TOPOLOGY
_DEMAND: Final = ReasonCode.INVALID_DEMAND
_FAULTS_TOLD: Final = 20


def rejected(nodes: Sequence[PowerNode], demands: Sequence[Demand], strategy: object, policy: object, step_kw: object) -> Rejected:
    """Every fault of an input that the quick checks refused."""
    faults = _node_faults(nodes)
    leaf_ids: frozenset[str] | None = None
    if not faults:
        faults = _shape_faults(nodes)
    if not faults and _is_one_of(Strategy, strategy):
        leaf_ids = _leaf_ids(nodes, Strategy(strategy))
    faults += _demand_faults(demands, leaf_ids)
    faults += _setting_faults(strategy, policy, step_kw)
    if not faults:
        faults = [(_TOPOLOGY, None, "the rows are not of the documented types")]
    faults.sort(key=lambda fault: (PRECEDENCE[fault[0]], fault[1] or "", fault[2]))
    told = [text if node_id is None else f"{node_id}: {text}" for _, node_id, text in faults[:_FAULTS_TOLD]]
    if len(faults) > _FAULTS_TOLD:
        told.append(f"and {len(faults) - _FAULTS_TOLD} more")
    return Rejected(
        reason_codes=in_precedence(code for code, _, _ in faults),
        node_ids=tuple(sorted({node_id for _, node_id, _ in faults if node_id is not None})),
        detail="; ".join(told),
    )


def _node_faults(nodes: Sequence[object]) -> list[Fault]:
    """What is wrong with single rows: types, identifiers, kinds, numbers."""
    faults: list[Fault] = []
    counts = Counter(_name(row.node_id) for row in nodes if isinstance(row, PowerNode))
    faults += [(_TOPOLOGY, node_id, f"this id stands {count} times") for node_id, count in counts.items() if count > 1]
    for row in nodes:
        if not isinstance(row, PowerNode):
            faults.append((_TOPOLOGY, None, f"not a power node: {row!r}"))
            continue
        name = _name(row.node_id)
        if not _is_text(row.node_id):
            faults.append((_TOPOLOGY, name, "the id is not text"))
        if row.parent_id is not None and not _is_text(row.parent_id):
            faults.append((_TOPOLOGY, name, f"the parent's id is not text: {row.parent_id!r}"))
        if not _is_one_of(NodeKind, row.kind):
            faults.append((_TOPOLOGY, name, f"there is no kind {row.kind!r}"))
        faults += [(_TOPOLOGY, name, f"base load {wrong}") for wrong in _power_faults(row.base_load_kw)]
        faults += [(_TOPOLOGY, name, wrong) for wrong in _limit_faults(row.limits)]
    return faults


def _limit_faults(limits: object) -> list[str]:
    try:
        rows = list(limits)  # pyright: ignore[reportArgumentType, reportUnknownArgumentType, reportUnknownVariableType]
    except TypeError:
        return [f"limits are not a list: {limits!r}"]
    wrong: list[str] = []
    for limit in rows:  # pyright: ignore[reportUnknownVariableType]
        source, value = getattr(limit, "source", None), getattr(limit, "value_kw", None)  # pyright: ignore[reportUnknownArgumentType]
        if not _is_one_of(LimitSource, source):
            wrong.append(f"there is no limit source {source!r}")
        if value is not None:
            wrong += [f"limit {fault}" for fault in _power_faults(value)]
    return wrong


def _shape_faults(nodes: Sequence[PowerNode]) -> list[Fault]:
    """What is wrong with how sound rows hang together: roots, orphans, cycles."""
    parent_of = {row.node_id: row.parent_id for row in nodes}
    roots = [node_id for node_id, parent_id in parent_of.items() if parent_id is None]
    faults: list[Fault] = []
    if len(roots) > 1:
        faults += [(_TOPOLOGY, root, f"one of {len(roots)} roots") for root in roots]
    faults += [
        (_TOPOLOGY, node_id, f"its parent {parent_id} does not exist")
        for node_id, parent_id in parent_of.items()
        if parent_id is not None and parent_id not in parent_of
    ]
    in_cycle = _cycle_members(parent_of)
    faults += [(_TOPOLOGY, node_id, "part of a cycle") for node_id in in_cycle]
    if not roots and not faults:
        faults.append((_TOPOLOGY, None, "there is no root"))
    return faults


def _cycle_members(parent_of: dict[str, str | None]) -> list[str]:
    done: set[str] = set()
    members: list[str] = []
    for start in parent_of:
        path: list[str] = []
        on_path: set[str] = set()
        at: str | None = start
        while at is not None and at in parent_of and at not in done and at not in on_path:
            path.append(at)
            on_path.add(at)
            at = parent_of[at]
        if at in on_path:
            members += path[path.index(at) :]
        done |= on_path
    return members


def _leaf_ids(nodes: Sequence[PowerNode], strategy: Strategy) -> frozenset[str] | None:
    try:
        return frozenset(arrange(nodes, strategy).leaf_at)
    except (UnusableError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
        return None


def _demand_faults(demands: Sequence[object], leaf_ids: frozenset[str] | None) -> list[Fault]:
    """What is wrong with the demands; whether their leaves exist only where these are known."""
    counts = Counter(_name(row.leaf_id) for row in demands if isinstance(row, Demand))
    faults: list[Fault] = [(_DEMAND, leaf_id, f"{count} demands for it") for leaf_id, count in counts.items() if count > 1]
    for row in demands:
        if not isinstance(row, Demand):
            faults.append((_DEMAND, None, f"not a demand: {row!r}"))
            continue
        name = _name(row.leaf_id)
        if leaf_ids is not None and (not _is_text(row.leaf_id) or row.leaf_id not in leaf_ids):
            faults.append((_DEMAND, name, "a demand for an unknown leaf"))
        faults += [(_DEMAND, name, f"requested power {wrong}") for wrong in _power_faults(row.requested_kw)]
        faults += [(_DEMAND, name, f"minimum power {wrong}") for wrong in _power_faults(row.min_kw)]
        if not _within(row.weight, *WEIGHTS):
            faults.append((_DEMAND, name, f"weight {row.weight!r} is not between {WEIGHTS[0]} and {WEIGHTS[1]}"))
        if not _within(row.priority, -MOST_KW, MOST_KW):
            faults.append((_DEMAND, name, f"priority {row.priority!r} is not a number"))
        for what in ("arrived_at", "departs_at", "without_power_since"):
            moment: object = getattr(row, what)
            if moment is not None and not (isinstance(moment, datetime) and moment.utcoffset() is not None):
                faults.append((_DEMAND, name, f"{what} {moment!r} is not a time with an offset"))
    return faults


def _setting_faults(strategy: object, policy: object, step_kw: object) -> list[Fault]:
    faults: list[Fault] = []
    if not _is_one_of(Strategy, strategy):
        faults.append((_DEMAND, None, f"there is no strategy {strategy!r}"))
    if not _is_one_of(Policy, policy):
        faults.append((_DEMAND, None, f"there is no policy {policy!r}"))
    if step_kw is not None and not _within(step_kw, SMALLEST_STEP_KW, MOST_KW):
        faults.append((_DEMAND, None, f"step_kw {step_kw!r} is not between {SMALLEST_STEP_KW} and {MOST_KW}"))
    return faults


def _power_faults(value: object) -> list[str]:
    return [] if _within(value, 0.0, MOST_KW) else [f"{value!r} is not a power between 0 and {MOST_KW} kW"]


def _within(value: object, least: float, most: float) -> bool:
    return isinstance(value, int | float) and least <= value <= most


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_one_of(kind: type[StrEnum], value: object) -> bool:
    return isinstance(value, str) and value in set(kind)


def _name(node_id: object) -> str:
    return node_id if isinstance(node_id, str) else repr(node_id)
