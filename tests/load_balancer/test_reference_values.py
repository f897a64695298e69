"""The known answers, to a watt, and who is named as the reason."""

import pytest
from tests.load_balancer.reference_sites import (
    C1_DEMANDS,
    C1_NODES,
    C2_DEMANDS,
    C2_NODES,
    C5_NODES,
    C5_PLUGS,
    C5_POINTS,
    allocated,
    asks,
    depot,
    given,
    rated,
)

from load_balancer import Allocated, Demand, LimitSource, NodeKind, Outcome, PowerNode, ReasonCode, Strategy, allocate

WATT = 0.001


def by_circuit(result: Allocated) -> list[list[float]]:
    return [
        [leaf.allocated_kw for leaf in result.leaves if leaf.leaf_id.startswith(circuit)] for circuit in ("K1", "K2", "K3", "K4")
    ]


def assert_circuits(result: Allocated, expected: list[list[float]]) -> None:
    for row, expected_row in zip(by_circuit(result), expected, strict=True):
        assert row == pytest.approx(expected_row, abs=WATT)


def test_a_small_circuit_binds_its_own_and_the_grid_connection_the_rest() -> None:
    result = allocated(allocate(C1_NODES, C1_DEMANDS))
    assert_circuits(result, [[15] * 4, [45] * 4, [45] * 4, [45] * 4])
    assert result.outcome is Outcome.CURTAILED
    assert {leaf.binding_node_id for leaf in result.leaves if leaf.leaf_id.startswith("K1")} == {"K1"}
    assert {leaf.binding_node_id for leaf in result.leaves if not leaf.leaf_id.startswith("K1")} == {"GC"}


def test_unequal_demands_are_bound_by_their_circuit_or_by_the_grid_connection() -> None:
    result = allocated(allocate(C2_NODES, C2_DEMANDS))
    third = 160 / 3
    assert_circuits(result, [[third, third, 30, 0], [45] * 4, [100 / 3, 100 / 3, 100 / 3, 20], [10, third, 0, 0]])
    binding = {leaf.leaf_id: leaf.binding_node_id for leaf in result.leaves if leaf.binding_node_id}
    assert binding == {
        **dict.fromkeys(("K1-1", "K1-2", "K4-2"), "GC"),
        **dict.fromkeys(("K2-1", "K2-2", "K2-3", "K2-4"), "K2"),
        **dict.fromkeys(("K3-1", "K3-2", "K3-3"), "K3"),
    }
    assert result.reason_codes == (ReasonCode.GRID_CONNECTION_LIMIT, ReasonCode.CHARGER_CIRCUIT_LIMIT)
    assert sum(given(result).values()) == pytest.approx(500, abs=1e-9)


def test_whole_steps_floor_to_498_and_hand_two_to_the_first_circuit() -> None:
    result = allocated(allocate(C2_NODES, C2_DEMANDS, step_kw=1))
    assert by_circuit(result) == [[54, 54, 30, 0], [45] * 4, [33, 33, 33, 20], [10, 53, 0, 0]]
    assert ReasonCode.STEP_ROUNDING in result.reason_codes


def test_connectors_share_their_charge_point_circuit_and_grid_connection() -> None:
    result = allocated(allocate(C5_NODES, C5_PLUGS, strategy=Strategy.CONNECTOR))
    assert_circuits(result, [[22] * 5, [22] * 5, [22] * 5, [18] * 5])


def test_charge_points_share_as_one_leaf_each() -> None:
    result = allocated(allocate(C5_NODES, C5_POINTS, strategy=Strategy.CHARGER))
    assert_circuits(result, [[27.5] * 4, [27.5] * 4, [27.5] * 4, [22.5] * 4])


@pytest.mark.parametrize("strategy", Strategy)
def test_grid_connection_circuits_and_charge_points_are_respected_together(strategy: Strategy) -> None:
    """Each of the three limits binds someone at once: GC 260, K1 60, the first charge point of K2 only 8."""
    nodes = depot(260, (60, 200, 200, 200), charge_point_kw=60, connectors=(2, 1, 1, 1), connector_kw=50)
    nodes = [
        PowerNode("K2-1", "K2", NodeKind.CHARGE_POINT, rated(8, LimitSource.CIRCUIT_SAFE)) if row.node_id == "K2-1" else row
        for row in nodes
    ]
    plugs = strategy is Strategy.CONNECTOR
    demands = [Demand(row.node_id, 50) for row in nodes if row.kind is NodeKind.CONNECTOR] if plugs else asks(*[[100] * 4] * 4)
    result = allocated(allocate(nodes, demands, strategy=strategy))
    for node in result.nodes:
        assert node.limit_kw is None or node.allocated_kw <= node.limit_kw * (1 + 1e-9)
    assert {leaf.binding_node_id for leaf in result.leaves} == {"GC", "K1", "K2-1"}
    assert result.reason_codes == (
        ReasonCode.GRID_CONNECTION_LIMIT,
        ReasonCode.CHARGER_CIRCUIT_LIMIT,
        ReasonCode.CHARGE_POINT_LIMIT,
    )
    full = {row.node_id: row.allocated_kw for row in result.nodes if row.node_id in ("GC", "K1", "K2-1")}
    assert full == pytest.approx({"GC": 260, "K1": 60, "K2-1": 8})


@pytest.mark.parametrize(
    ("rating_kw", "connectors_kw", "limit_kw", "source"),
    [
        (100, (30, 40), 70, LimitSource.PHYSICAL_RATING),
        (60, (50, 50), 60, LimitSource.PHYSICAL_RATING),
        (60, (), 60, LimitSource.PHYSICAL_RATING),
        (None, (30, None), None, None),
        (None, (30, 40), 70, LimitSource.PHYSICAL_RATING),
        (60, (0, 0), 0, LimitSource.PHYSICAL_RATING),
    ],
)
def test_a_charger_has_the_smaller_of_its_rating_and_the_sum_of_its_connectors(
    rating_kw: float | None, connectors_kw: tuple[float | None, ...], limit_kw: float | None, source: LimitSource | None
) -> None:
    nodes = [
        PowerNode("site", None, NodeKind.MICROGRID),
        PowerNode("cp", "site", NodeKind.CHARGE_POINT, rated(rating_kw)),
        *(PowerNode(f"plug-{i}", "cp", NodeKind.CONNECTOR, rated(limit)) for i, limit in enumerate(connectors_kw)),
    ]
    result = allocated(allocate(nodes, [Demand("cp", 500)], strategy=Strategy.CHARGER))
    row = result.node("cp")
    assert row is not None
    assert (row.limit_kw, row.limit_source) == (limit_kw, source)
    assert given(result) == {"cp": 500 if limit_kw is None else limit_kw}
    assert [node.node_id for node in result.nodes] == ["cp", "site"]


def test_a_sum_of_connector_limits_names_the_source_that_made_it_small() -> None:
    nodes = [
        PowerNode("cp", None, NodeKind.CHARGE_POINT, rated(100)),
        PowerNode("a", "cp", NodeKind.CONNECTOR, rated(30), base_load_kw=5),
        PowerNode("b", "cp", NodeKind.CONNECTOR, (*rated(50), *rated(20, LimitSource.OPERATOR_LIMIT))),
    ]
    result = allocated(allocate(nodes, [Demand("cp", 500)], strategy=Strategy.CHARGER))
    assert given(result) == {"cp": 45}
    assert result.leaves[0].binding_source is LimitSource.OPERATOR_LIMIT
    assert result.nodes[0].base_load_kw == 5


@pytest.mark.parametrize("equal", [rated(50, LimitSource.SCHEDULE) + rated(50, LimitSource.OPERATING_ENVELOPE)])
def test_of_equal_limits_the_first_source_in_order_is_named(equal: tuple[object, ...]) -> None:
    for limits in (equal, equal[::-1]):
        nodes = [PowerNode("site", None, NodeKind.MICROGRID, limits), PowerNode("cp", "site", NodeKind.CHARGE_POINT)]  # pyright: ignore[reportArgumentType]
        assert allocated(allocate(nodes, [Demand("cp", 60)])).leaves[0].binding_source is LimitSource.OPERATING_ENVELOPE


def test_of_nodes_that_fill_at_the_same_level_the_nearest_to_the_leaf_is_the_reason() -> None:
    nodes = depot(120, (60, 60), connectors=(0, 0))
    result = allocated(allocate(nodes, asks((50, 50), (50, 50))))
    assert [leaf.binding_node_id for leaf in result.leaves] == ["K1", "K1", "K2", "K2"]
    assert [row.saturated for row in result.nodes if row.node_id in ("GC", "K1", "K2")] == [True, True, True]


def test_a_base_load_uses_its_node_and_every_node_above() -> None:
    nodes = [
        PowerNode("GC", None, NodeKind.GRID_CONNECTION, rated(100)),
        PowerNode("K1", "GC", NodeKind.CHARGER_CIRCUIT, rated(80), base_load_kw=50),
        PowerNode("K2", "GC", NodeKind.CHARGER_CIRCUIT, rated(80)),
        PowerNode("K1-1", "K1", NodeKind.CHARGE_POINT),
        PowerNode("K2-1", "K2", NodeKind.CHARGE_POINT),
    ]
    result = allocated(allocate(nodes, [Demand("K1-1", 80), Demand("K2-1", 80)]))
    assert given(result) == {"K1-1": 25, "K2-1": 25}
    grid = result.node("GC")
    assert grid is not None
    assert (grid.allocated_kw, grid.base_load_kw, grid.demand_kw, grid.saturation_level) == (50, 50, 160, 25)


def test_a_base_load_above_the_limit_leaves_nothing_below_and_says_so() -> None:
    nodes = [
        PowerNode("GC", None, NodeKind.GRID_CONNECTION, rated(100)),
        PowerNode("K1", "GC", NodeKind.CHARGER_CIRCUIT, rated(40), base_load_kw=50),
        PowerNode("K1-1", "K1", NodeKind.CHARGE_POINT),
        PowerNode("K2-1", "GC", NodeKind.CHARGE_POINT),
    ]
    result = allocated(allocate(nodes, [Demand("K1-1", 80, min_kw=4), Demand("K2-1", 80)]))
    assert given(result) == {"K1-1": 0, "K2-1": 50}
    assert [leaf.reason_code for leaf in result.leaves] == [
        ReasonCode.BASE_LOAD_EXCEEDS_LIMIT,
        ReasonCode.GRID_CONNECTION_LIMIT,
    ]


def test_an_overloaded_node_is_told_although_nobody_below_asks() -> None:
    nodes = [
        PowerNode("GC", None, NodeKind.GRID_CONNECTION),
        PowerNode("K1", "GC", NodeKind.CHARGER_CIRCUIT, rated(40), base_load_kw=50),
    ]
    result = allocated(allocate(nodes, []))
    assert (result.outcome, result.reason_codes) == (Outcome.APPLIED, (ReasonCode.BASE_LOAD_EXCEEDS_LIMIT,))


@pytest.mark.parametrize("parts", [(0.1, 0.2), (6.9, 6.9, 6.9), (1000.1, 0.2), (100 / 3, 100 / 3, 100 / 3)])
def test_demand_equal_to_capacity_but_for_a_rounding_error_is_met(parts: tuple[float, ...]) -> None:
    limit = round(sum(parts), 9)
    nodes = [PowerNode("site", None, NodeKind.MICROGRID, rated(limit))]
    nodes += [PowerNode(f"cp-{i}", "site", NodeKind.CHARGE_POINT) for i in range(len(parts))]
    result = allocated(allocate(nodes, [Demand(f"cp-{i}", part) for i, part in enumerate(parts)]))
    assert result.outcome is Outcome.APPLIED
    assert tuple(given(result).values()) == parts


def test_no_demand_at_all_is_applied() -> None:
    assert allocated(allocate(C1_NODES, [])).outcome is Outcome.APPLIED


def test_no_limit_is_unlimited_and_zero_is_nothing() -> None:
    nodes = depot(None, (0, None), connectors=(0,))
    assert given(allocate(nodes, asks((50,), (50,)))) == {"K1-1": 0, "K2-1": 50}


def test_the_root_may_be_the_only_leaf() -> None:
    assert given(allocate([PowerNode("cp", None, NodeKind.CHARGE_POINT, rated(22))], [Demand("cp", 50)])) == {"cp": 22}
