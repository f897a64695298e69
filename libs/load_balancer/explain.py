"""Why does this leaf get what it gets, in one sentence?"""

from typing import Final

from load_balancer.allocation import Allocated, LeafAllocation, NodeAllocation, ReasonCode, Rejected
from load_balancer.power_tree import LimitSource, NodeKind

_RATING_OF: Final = {
    NodeKind.MICROGRID: "site rating",
    NodeKind.GRID_CONNECTION: "connection rating",
    NodeKind.CHARGER_CIRCUIT: "circuit rating",
    NodeKind.CHARGE_POINT: "charge point rating",
    NodeKind.CONNECTOR: "connector rating",
}


def explain(allocation: Allocated | Rejected, leaf_id: str) -> str:
    """One sentence on one leaf, such as "cp-07 gets 33.3 of 150 kW: charger circuit K3 is full (120 kW, circuit rating)".

    Never raises: a leaf that asked for nothing, and an input that was rejected, get a sentence too.
    """
    if isinstance(allocation, Rejected):
        return f"{leaf_id} gets nothing: the input was rejected ({', '.join(allocation.reason_codes)}: {allocation.detail})"
    leaf = allocation.leaf(leaf_id)
    if leaf is None:
        return f"{leaf_id} gets nothing: it did not ask for power"
    if leaf.reason_code is None:
        return f"{leaf_id} gets all of the {_kw(leaf.requested_kw)} kW it asked for"
    allocated, requested = _told_apart(leaf.allocated_kw, leaf.requested_kw)
    return f"{leaf_id} gets {allocated} of {requested} kW: {_because(allocation, leaf)}"


def _because(allocation: Allocated, leaf: LeafAllocation) -> str:
    node = None if leaf.binding_node_id is None else allocation.node(leaf.binding_node_id)
    if node is None:
        if leaf.reason_code is ReasonCode.STEP_ROUNDING:
            return "rounded down to whole steps"
        if leaf.min_kw > leaf.requested_kw:
            return f"its minimum of {_kw(leaf.min_kw)} kW is more than it asked for"
        return f"no whole step lies between its minimum of {_kw(leaf.min_kw)} kW and what it asked for"
    name = f"{node.kind.replace('_', ' ').lower()} {node.node_id}"
    if leaf.reason_code is ReasonCode.BASE_LOAD_EXCEEDS_LIMIT:
        return f"the base load of {_kw(node.base_load_kw)} kW under {name} exceeds its limit ({_limit(node)})"
    if leaf.reason_code is ReasonCode.MINIMUM_POWER_NOT_ADMITTED:
        return f"its minimum of {_kw(leaf.min_kw)} kW does not fit under {name} ({_limit(node)})"
    if node.node_id == leaf.leaf_id:
        return f"that is all its own limit allows ({_limit(node)})"
    base = f", {_kw(node.base_load_kw)} kW of it base load" if node.base_load_kw else ""
    return f"{name} is full ({_limit(node)}{base})"


def _limit(node: NodeAllocation) -> str:
    if node.limit_kw is None or node.limit_source is None:
        return "no limit"
    source = node.limit_source.replace("_", " ").lower()
    return f"{_kw(node.limit_kw)} kW, {_RATING_OF[node.kind] if node.limit_source is LimitSource.PHYSICAL_RATING else source}"


def _kw(power_kw: float, decimals: int = 1) -> str:
    """One decimal, more only where the number would vanish; no trailing zeros."""
    text = f"{power_kw:.{decimals}f}" if power_kw >= 0.1 or power_kw == 0.0 else f"{power_kw:.3g}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _told_apart(allocated_kw: float, requested_kw: float) -> tuple[str, str]:
    """Both numbers with as many decimals as it takes to see that they differ."""
    for decimals in range(1, 12):
        allocated, requested = _kw(allocated_kw, decimals), _kw(requested_kw, decimals)
        if allocated != requested:
            return allocated, requested
    return repr(allocated_kw), repr(requested_kw)
