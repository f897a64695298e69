"""Who gets power at all, when not every minimum fits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.load_balancer.random_sites import Site, sites
from tests.load_balancer.reference_sites import allocated, depot, rated
from tests.load_balancer.reference_sites import given as given_kw

from load_balancer import Demand, Outcome, Policy, PowerNode, ReasonCode, allocate
from load_balancer.power_tree import Limit, LimitSource, NodeKind

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def site(limit_kw: float | None, *leaf_ids: str) -> list[PowerNode]:
    return [
        PowerNode("site", None, NodeKind.MICROGRID, (Limit(limit_kw, LimitSource.OPERATOR_LIMIT),)),
        *(PowerNode(leaf_id, "site", NodeKind.CHARGE_POINT) for leaf_id in leaf_ids),
    ]


def test_a_leaf_with_a_minimum_gets_at_least_that_or_nothing() -> None:
    result = allocated(allocate(site(10, "a", "b", "c"), [Demand(leaf, 22, min_kw=4) for leaf in "abc"]))
    assert given_kw(result) == {"a": 5, "b": 5, "c": 0}
    refused = result.leaves[2]
    assert (refused.reason_code, refused.binding_node_id, refused.binding_source) == (
        ReasonCode.MINIMUM_POWER_NOT_ADMITTED,
        "site",
        LimitSource.OPERATOR_LIMIT,
    )
    assert result.reason_codes == (ReasonCode.MICROGRID_LIMIT, ReasonCode.MINIMUM_POWER_NOT_ADMITTED)


@pytest.mark.parametrize(
    ("waiting_hours", "admitted"),
    [
        ({}, "a"),
        ({"b": 1}, "b"),
        ({"b": 1, "c": 2}, "c"),
        ({"b": 2, "c": 2}, "b"),
        ({"a": 1, "b": 1, "c": 1}, "a"),
    ],
)
def test_within_a_tier_the_longest_without_power_comes_first_then_the_id(waiting_hours: dict[str, int], admitted: str) -> None:
    demands = [
        Demand(
            leaf, 22, min_kw=4, without_power_since=NOON - timedelta(hours=waiting_hours[leaf]) if leaf in waiting_hours else None
        )
        for leaf in "abc"
    ]
    assert [leaf for leaf, power in given_kw(allocate(site(4, *"abc"), demands)).items() if power] == [admitted]


def test_an_earlier_tier_is_admitted_before_one_that_waits_longer() -> None:
    demands = [Demand("a", 22, min_kw=4, without_power_since=NOON), Demand("b", 22, min_kw=4, priority=1)]
    assert given_kw(allocate(site(5, "a", "b"), demands, policy=Policy.PRIORITY)) == {"a": 0, "b": 5}


def test_the_minimum_of_an_admitted_leaf_of_a_later_tier_is_set_aside() -> None:
    demands = [Demand("a", 22, min_kw=4), Demand("b", 22, priority=1)]
    assert given_kw(allocate(site(20, "a", "b"), demands, policy=Policy.PRIORITY)) == {"a": 4, "b": 16}


def test_a_minimum_that_does_not_fit_is_passed_over_for_a_smaller_one() -> None:
    demands = [Demand("a", 22, min_kw=4), Demand("b", 22, min_kw=8), Demand("c", 22, min_kw=2)]
    assert given_kw(allocate(site(6, *"abc"), demands)) == {"a": 4, "b": 0, "c": 2}


@pytest.mark.parametrize("requested", [0.0, 3.0])
def test_a_minimum_above_the_request_admits_nothing_and_harms_nobody(requested: float) -> None:
    result = allocated(allocate(site(8, "a", "b"), [Demand("a", requested, min_kw=4), Demand("b", 8, min_kw=4)]))
    assert given_kw(result) == {"a": 0, "b": 8}
    assert result.leaves[0].reason_code == (ReasonCode.MINIMUM_POWER_NOT_ADMITTED if requested else None)
    assert result.leaves[0].binding_node_id is None
    assert result.outcome is (Outcome.CURTAILED if requested else Outcome.APPLIED)


def test_a_minimum_lifts_a_leaf_above_the_common_share() -> None:
    demands = [Demand("a", 22, min_kw=10), Demand("b", 22, min_kw=2), Demand("c", 22)]
    assert given_kw(allocate(site(18, *"abc"), demands)) == {"a": 10, "b": 4, "c": 4}


def test_a_full_circuit_with_minima_counts_in_full_further_up() -> None:
    """K1 is full at 8 kW (10 + 8 + 8 + 4); what rises in it goes on counting when the grid connection fills at 12."""
    nodes = depot(42, (30, None), connectors=(0, 0, 0, 0))
    demands = [
        Demand("K1-1", 50, min_kw=10),
        Demand("K1-2", 50, min_kw=2),
        Demand("K1-3", 50),
        Demand("K1-4", 4),
        Demand("K2-1", 50),
    ]
    assert given_kw(allocate(nodes, demands)) == {"K1-1": 10, "K1-2": 8, "K1-3": 8, "K1-4": 4, "K2-1": 12}


def test_minima_that_fill_a_node_exactly_but_for_a_rounding_error_fit() -> None:
    assert given_kw(allocate(site(20.7, *"abc"), [Demand(leaf, 22, min_kw=6.9) for leaf in "abc"])) == dict.fromkeys("abc", 6.9)


def test_the_nearest_node_without_room_is_named() -> None:
    nodes = depot(5, (3, None), connectors=(0,))
    result = allocated(allocate(nodes, [Demand("K1-1", 22, min_kw=4), Demand("K2-1", 22, min_kw=6)]))
    assert [leaf.binding_node_id for leaf in result.leaves] == ["K1", "GC"]


@settings(max_examples=50, deadline=None)
@given(site=sites(), policy=st.sampled_from(Policy))
def test_nobody_is_refused_whose_minimum_would_still_fit(site: Site, policy: Policy) -> None:
    result = allocated(allocate(site.nodes, site.demands, policy=policy))
    paths = site.paths()
    minima = {leaf.leaf_id: leaf.min_kw for leaf in result.leaves if leaf.min_kw and leaf.allocated_kw}
    for leaf in result.leaves:
        if leaf.reason_code is ReasonCode.MINIMUM_POWER_NOT_ADMITTED and leaf.binding_node_id is not None:
            node = result.node(leaf.binding_node_id)
            assert node is not None
            assert node.limit_kw is not None
            admitted = sum(minimum for leaf_id, minimum in minima.items() if node.node_id in paths[leaf_id])
            assert admitted + leaf.min_kw > node.limit_kw - node.base_load_kw


@settings(max_examples=40, deadline=None)
@given(
    minima=st.lists(st.sampled_from([1.4, 4.0, 6.9, 11.0]), min_size=2, max_size=8),
    limit=st.integers(11, 40),
    circuit=st.one_of(st.none(), st.integers(11, 30)),
    policy=st.sampled_from([Policy.EQUAL, Policy.PROPORTIONAL]),
)
def test_with_the_waiting_times_kept_up_to_date_nobody_in_a_tier_starves(
    minima: list[float], limit: int, circuit: int | None, policy: Policy
) -> None:
    """Over any window of as many cycles as there are leaves, every leaf is admitted at least once."""
    nodes = [
        PowerNode("site", None, NodeKind.GRID_CONNECTION, rated(limit)),
        PowerNode("K", "site", NodeKind.CHARGER_CIRCUIT, rated(circuit)),
    ]
    nodes += [PowerNode(f"cp{i}", ("K", "site")[i % 2], NodeKind.CHARGE_POINT) for i in range(len(minima))]
    demands = [Demand(f"cp{i}", 22, min_kw=minimum) for i, minimum in enumerate(minima)]
    turn = len(minima)
    last_admitted = dict.fromkeys((demand.leaf_id for demand in demands), -1)
    for cycle in range(3 * turn):
        now = NOON + timedelta(minutes=cycle)
        power = given_kw(allocate(nodes, demands, policy=policy))
        for leaf_id, allocated_kw in power.items():
            if allocated_kw:
                last_admitted[leaf_id] = cycle
        assert all(cycle - last <= turn for last in last_admitted.values())
        demands = [
            replace(demand, without_power_since=None if power[demand.leaf_id] else demand.without_power_since or now)
            for demand in demands
        ]
