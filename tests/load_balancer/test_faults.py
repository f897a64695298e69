"""Every input that cannot be balanced is rejected with its code and the nodes at fault; nothing raises."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.load_balancer.random_sites import Site, sites
from tests.load_balancer.reference_sites import rated

from load_balancer import (
    Allocated,
    Demand,
    Limit,
    LimitSource,
    NodeKind,
    Policy,
    PowerNode,
    ReasonCode,
    Rejected,
    Strategy,
    allocate,
)

TOPOLOGY, DEMAND = ReasonCode.INVALID_TOPOLOGY, ReasonCode.INVALID_DEMAND
ROOT = PowerNode("root", None, NodeKind.MICROGRID)
CIRCUIT = PowerNode("K1", "root", NodeKind.CHARGER_CIRCUIT, rated(50))
POINT = PowerNode("cp", "K1", NodeKind.CHARGE_POINT)
SITE = [ROOT, CIRCUIT, POINT]
ASKS = Demand("cp", 10)


def wrong(value: object) -> Any:
    """A value of a forbidden type, past the type checker."""
    return value


NOT_POWERS: list[Any] = [-1, -1e-12, float("nan"), float("inf"), float("-inf"), 1e16, 10**400, None, "7", Decimal(7), [], object()]


def assert_rejected(result: Allocated | Rejected, code: ReasonCode, *node_ids: str, says: str = "") -> None:
    assert isinstance(result, Rejected)
    assert result.reason_codes == (code,)
    assert result.node_ids == node_ids
    assert says in result.detail
    assert result.detail


@pytest.mark.parametrize(
    ("nodes", "node_ids", "says"),
    [
        ([], (), "no root"),
        ([replace(ROOT, parent_id="root")], ("root",), "cycle"),
        ([ROOT, replace(CIRCUIT, parent_id="cp"), POINT], ("K1", "cp"), "cycle"),
        (
            [ROOT, replace(CIRCUIT, parent_id="K2"), replace(CIRCUIT, node_id="K2", parent_id="K1"), POINT],
            ("K1", "K2"),
            "cycle",
        ),
        ([ROOT, replace(CIRCUIT, parent_id="nowhere"), POINT], ("K1",), "nowhere does not exist"),
        ([*SITE, replace(ROOT, node_id="second")], ("root", "second"), "2 roots"),
        ([*SITE, POINT], ("cp",), "2 times"),
        ([*SITE, replace(POINT, parent_id="root")], ("cp",), "2 times"),
        ([ROOT, CIRCUIT, CIRCUIT, POINT], ("K1",), "2 times"),
        ([ROOT, replace(CIRCUIT, kind=wrong("TRANSFORMER")), POINT], ("K1",), "TRANSFORMER"),
        ([ROOT, replace(CIRCUIT, limits=wrong(None)), POINT], ("K1",), "not a list"),
        ([ROOT, replace(CIRCUIT, limits=[Limit(5, wrong("GUESS"))]), POINT], ("K1",), "GUESS"),
        ([ROOT, replace(CIRCUIT, limits=[Limit(None, wrong("GUESS"))]), POINT], ("K1",), "GUESS"),
        ([ROOT, replace(CIRCUIT, node_id=wrong(7)), POINT], ("7",), "not text"),
        ([ROOT, replace(CIRCUIT, parent_id=wrong(["root"])), POINT], ("K1",), "not text"),
        ([ROOT, wrong("K1"), POINT], (), "not a power node"),
        ([replace(node, node_id=wrong(number)) for number, node in enumerate([ROOT])], ("0",), "not text"),
    ],
)
def test_what_is_no_tree_is_invalid_topology(nodes: list[PowerNode], node_ids: tuple[str, ...], says: str) -> None:
    assert_rejected(allocate(nodes, []), TOPOLOGY, *node_ids, says=says)


@pytest.mark.parametrize("value", NOT_POWERS)
def test_a_base_load_that_is_no_power_is_invalid_topology(value: Any) -> None:
    assert_rejected(allocate([ROOT, replace(CIRCUIT, base_load_kw=value), POINT], [ASKS]), TOPOLOGY, "K1", says="base load")


@pytest.mark.parametrize("value", [value for value in NOT_POWERS if value is not None])
def test_a_limit_that_is_no_power_is_invalid_topology(value: Any) -> None:
    limits = (Limit(5, LimitSource.SCHEDULE), Limit(value, LimitSource.SCHEDULE))
    assert_rejected(allocate([ROOT, replace(CIRCUIT, limits=limits), POINT], [ASKS]), TOPOLOGY, "K1", says="limit")


@pytest.mark.parametrize("field", ["requested_kw", "min_kw"])
@pytest.mark.parametrize("value", NOT_POWERS)
def test_a_demand_that_is_no_power_is_invalid_demand(field: str, value: Any) -> None:
    assert_rejected(allocate(SITE, [replace(ASKS, **{field: value})]), DEMAND, "cp", says="power")


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("value", [0, -0.0, *NOT_POWERS])
def test_a_weight_that_is_none_is_invalid_demand(value: Any, policy: Policy) -> None:
    assert_rejected(allocate(SITE, [replace(ASKS, weight=value)], policy=policy), DEMAND, "cp", says="weight")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "high"])
def test_a_priority_that_is_no_number_is_invalid_demand(value: Any) -> None:
    assert_rejected(allocate(SITE, [replace(ASKS, priority=value)]), DEMAND, "cp", says="priority")


@pytest.mark.parametrize("field", ["arrived_at", "departs_at", "without_power_since"])
@pytest.mark.parametrize("value", [datetime(2026, 1, 1), "2026-01-01T00:00:00Z", 7])  # noqa: DTZ001 - the fault under test
def test_a_time_without_an_offset_is_invalid_demand(field: str, value: Any) -> None:
    assert_rejected(allocate(SITE, [replace(ASKS, **{field: value})]), DEMAND, "cp", says=field)


@pytest.mark.parametrize("leaf_id", ["nobody", "K1", "root", None, 7, ["cp"]])
def test_a_demand_for_what_is_no_leaf_is_invalid_demand(leaf_id: Any) -> None:
    name = leaf_id if isinstance(leaf_id, str) else repr(leaf_id)
    assert_rejected(allocate(SITE, [ASKS, replace(ASKS, leaf_id=leaf_id)]), DEMAND, name, says="unknown leaf")


@pytest.mark.parametrize(("strategy", "leaf_id"), [(Strategy.CHARGER, "plug"), (Strategy.CONNECTOR, "cp")])
def test_which_nodes_are_leaves_depends_on_the_strategy(strategy: Strategy, leaf_id: str) -> None:
    nodes = [*SITE, PowerNode("plug", "cp", NodeKind.CONNECTOR)]
    assert_rejected(allocate(nodes, [Demand(leaf_id, 5)], strategy=strategy), DEMAND, leaf_id, says="unknown leaf")


def test_two_demands_for_a_leaf_are_invalid_demand() -> None:
    assert_rejected(allocate(SITE, [ASKS, ASKS]), DEMAND, "cp", says="2 demands")


@pytest.mark.parametrize(
    "settings_",
    [{"strategy": "PLUG"}, {"policy": "RANDOM"}, {"policy": None}, *({"step_kw": bad} for bad in (0, -1, 1e-9, "1", float("nan")))],
)
def test_a_setting_that_there_is_none_of_is_invalid_demand(settings_: dict[str, Any]) -> None:
    assert_rejected(allocate(SITE, [ASKS], **settings_), DEMAND, says=next(iter(settings_)))


def test_every_fault_is_named_in_one_answer() -> None:
    result = allocate([ROOT, replace(CIRCUIT, base_load_kw=-1), replace(POINT, kind=wrong(""))], [replace(ASKS, weight=0)])
    assert isinstance(result, Rejected)
    assert result.reason_codes == (TOPOLOGY, DEMAND)
    assert result.node_ids == ("K1", "cp")


def test_the_order_of_a_faulty_input_changes_nothing() -> None:
    nodes = [*SITE, replace(ROOT, node_id="z"), replace(ROOT, node_id="y"), replace(CIRCUIT, node_id="K2", parent_id="?")]
    assert allocate(nodes, [ASKS]) == allocate(nodes[::-1], [ASKS])


def test_many_faults_are_told_in_a_bounded_sentence() -> None:
    result = allocate([replace(ROOT, node_id=f"r{i:03}") for i in range(500)], [])
    assert isinstance(result, Rejected)
    assert len(result.node_ids) == 500
    assert "and 480 more" in result.detail


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]), st.just({}), st.sampled_from(NodeKind)
)


@settings(max_examples=50, deadline=None)
@given(site=sites(most_leaves=3), data=st.data())
def test_nothing_raises_whatever_a_field_holds(site: Site, data: st.DataObject) -> None:
    nodes, demands = list(site.nodes), list(site.demands)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(nodes) - 1))
        field = data.draw(st.sampled_from(["node_id", "parent_id", "kind", "limits", "base_load_kw"]))
        nodes[at] = replace(nodes[at], **{field: data.draw(ODD)})
    else:
        at = data.draw(st.integers(0, len(demands) - 1))
        fields = ["leaf_id", "requested_kw", "min_kw", "weight", "priority", "arrived_at", "departs_at", "without_power_since"]
        demands[at] = replace(demands[at], **{data.draw(st.sampled_from(fields)): data.draw(ODD)})
    policy, step = data.draw(st.sampled_from(Policy)), data.draw(st.sampled_from([None, 1.0]))
    result = allocate(nodes, demands, policy=policy, step_kw=step)
    if isinstance(result, Rejected):
        assert set(result.reason_codes) <= {TOPOLOGY, DEMAND}
        assert "documented types" not in result.detail
