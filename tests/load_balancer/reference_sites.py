"""Sites with known answers: one grid connection over four charger circuits of four charge points each."""

from collections.abc import Sequence

from load_balancer import Allocated, Demand, Limit, LimitSource, NodeKind, PowerNode, Rejected


def rated(value_kw: float | None, source: LimitSource = LimitSource.PHYSICAL_RATING) -> tuple[Limit, ...]:
    return (Limit(value_kw, source),)


def depot(
    grid_kw: float | None,
    circuits_kw: Sequence[float | None],
    *,
    charge_point_kw: float | None = None,
    connectors: Sequence[int] = (0, 0, 0, 0),
    connector_kw: float | None = None,
) -> list[PowerNode]:
    """Grid connection GC over circuits K1…, each with charge points K1-1… that have as many connectors as told (K1-1-a…)."""
    nodes = [PowerNode("GC", None, NodeKind.GRID_CONNECTION, rated(grid_kw))]
    for circuit, limit in enumerate(circuits_kw, 1):
        nodes.append(PowerNode(f"K{circuit}", "GC", NodeKind.CHARGER_CIRCUIT, rated(limit)))
        for point, plugs in enumerate(connectors, 1):
            point_id = f"K{circuit}-{point}"
            nodes.append(PowerNode(point_id, f"K{circuit}", NodeKind.CHARGE_POINT, rated(charge_point_kw)))
            nodes += [
                PowerNode(f"{point_id}-{'abcd'[plug]}", point_id, NodeKind.CONNECTOR, rated(connector_kw)) for plug in range(plugs)
            ]
    return nodes


def asks(*rows_kw: Sequence[float]) -> list[Demand]:
    """One row per circuit, one number per charge point."""
    return [
        Demand(f"K{circuit}-{point}", requested) for circuit, row in enumerate(rows_kw, 1) for point, requested in enumerate(row, 1)
    ]


def allocated(result: Allocated | Rejected) -> Allocated:
    assert isinstance(result, Allocated), result
    return result


def given(result: Allocated | Rejected) -> dict[str, float]:
    return {leaf.leaf_id: leaf.allocated_kw for leaf in allocated(result).leaves}


C1_NODES = depot(600, (60, 200, 200, 200))
C1_DEMANDS = asks(*[[50] * 4] * 4)
C2_NODES = depot(500, (180, 180, 120, 180))
C2_DEMANDS = asks((150, 80, 30, 0), (60, 60, 60, 60), (150, 150, 150, 20), (10, 150, 0, 0))
C5_NODES = depot(420, (150, 150, 150, 90), charge_point_kw=60, connectors=(2, 1, 1, 1), connector_kw=50)
C5_PLUGS = [Demand(node.node_id, 50) for node in C5_NODES if node.kind is NodeKind.CONNECTOR]
C5_POINTS = asks(*[[100, 50, 50, 50]] * 4)
