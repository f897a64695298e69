"""How do an input and a result look as JSON?

The form of `contracts/balancing`: objects with the field names of the types, powers in kW, times in RFC 3339 with an offset,
`null` for "no limit" or "not known". An absent optional field has its default. Reading checks only the shape; whether the
numbers make a site is for `allocate` to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from load_balancer.allocate import allocate
from load_balancer.allocation import Allocated, ReasonCode, Rejected
from load_balancer.policies import Policy
from load_balancer.power_tree import Demand, Limit, LimitSource, NodeKind, PowerNode, Strategy


@dataclass(frozen=True, slots=True)
class Case:
    """Everything `allocate` takes."""

    nodes: tuple[PowerNode, ...]
    demands: tuple[Demand, ...]
    strategy: Strategy = Strategy.CONNECTOR
    policy: Policy = Policy.EQUAL
    step_kw: float | None = None

    def allocate(self) -> Allocated | Rejected:
        """What `allocate` says to it."""
        return allocate(self.nodes, self.demands, strategy=self.strategy, policy=self.policy, step_kw=self.step_kw)


def read_case(document: Mapping[str, Any]) -> Case | Rejected:
    """The input in `document`; `Rejected` if it has not the documented shape, with the place in `detail`."""
    place, code = "/nodes", ReasonCode.INVALID_TOPOLOGY
    try:
        nodes: list[PowerNode] = []
        for number, row in enumerate(document["nodes"]):
            place = f"/nodes/{number}"
            nodes.append(_node(row))
        place, code = "/demands", ReasonCode.INVALID_DEMAND
        demands: list[Demand] = []
        for number, row in enumerate(document["demands"]):
            place = f"/demands/{number}"
            demands.append(_demand(row))
        place = ""
        strategy, policy = Strategy(document.get("strategy", "CONNECTOR")), Policy(document.get("policy", "EQUAL"))
        return Case(tuple(nodes), tuple(demands), strategy, policy, document.get("step_kw"))
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        return Rejected((code,), (), f"{place or '/'}: {type(fault).__name__}: {fault}")


def write_case(case: Case) -> dict[str, Any]:
    """`case` as `read_case` reads it."""
    return {
        "strategy": case.strategy.value,
        "policy": case.policy.value,
        "step_kw": case.step_kw,
        "nodes": [
            {
                "node_id": node.node_id,
                "parent_id": node.parent_id,
                "kind": node.kind.value,
                "limits": [{"value_kw": limit.value_kw, "source": limit.source.value} for limit in node.limits],
                "base_load_kw": node.base_load_kw,
            }
            for node in case.nodes
        ],
        "demands": [
            {
                "leaf_id": demand.leaf_id,
                "requested_kw": demand.requested_kw,
                "min_kw": demand.min_kw,
                "weight": demand.weight,
                "priority": demand.priority,
                "arrived_at": _written(demand.arrived_at),
                "departs_at": _written(demand.departs_at),
                "without_power_since": _written(demand.without_power_since),
            }
            for demand in case.demands
        ],
    }


def write_result(result: Allocated | Rejected) -> dict[str, Any]:
    """`result` as plain JSON values; `outcome` is `REJECTED` for a rejected input."""
    if isinstance(result, Rejected):
        return {
            "outcome": "REJECTED",
            "reason_codes": [code.value for code in result.reason_codes],
            "node_ids": list(result.node_ids),
            "detail": result.detail,
        }
    return {
        "outcome": result.outcome.value,
        "reason_codes": [code.value for code in result.reason_codes],
        "leaves": [leaf._asdict() for leaf in result.leaves],
        "nodes": [node._asdict() for node in result.nodes],
    }


def _node(row: Mapping[str, Any]) -> PowerNode:
    limits: Sequence[Mapping[str, Any]] = row.get("limits", ())
    return PowerNode(
        node_id=row["node_id"],
        parent_id=row["parent_id"],
        kind=NodeKind(row["kind"]),
        limits=tuple(Limit(limit["value_kw"], LimitSource(limit["source"])) for limit in limits),
        base_load_kw=row.get("base_load_kw", 0.0),
    )


def _demand(row: Mapping[str, Any]) -> Demand:
    return Demand(
        leaf_id=row["leaf_id"],
        requested_kw=row["requested_kw"],
        min_kw=row.get("min_kw", 0.0),
        weight=row.get("weight", 1.0),
        priority=row.get("priority", 0),
        arrived_at=_moment(row.get("arrived_at")),
        departs_at=_moment(row.get("departs_at")),
        without_power_since=_moment(row.get("without_power_since")),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
