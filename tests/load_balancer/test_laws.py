"""What holds for any site, whatever its shape and numbers."""

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.load_balancer.random_sites import POWERS, Site, sites
from tests.load_balancer.reference_sites import allocated

from load_balancer import (
    Allocated,
    LeafAllocation,
    Limit,
    LimitSource,
    NodeKind,
    Outcome,
    Policy,
    PowerNode,
    ReasonCode,
    Strategy,
    allocate,
    flat_site,
)

CLOSE = 1e-9
POLICIES = st.sampled_from(Policy)
laws = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def close_kw(scale: float) -> float:
    return CLOSE * max(1.0, scale)


def assert_within_limits(result: Allocated) -> None:
    for node in result.nodes:
        if node.limit_kw is not None and node.base_load_kw <= node.limit_kw:
            assert node.allocated_kw + node.base_load_kw <= node.limit_kw * (1 + CLOSE)
        elif node.limit_kw is not None and node.base_load_kw > node.limit_kw * (1 + CLOSE):
            assert node.allocated_kw == 0.0


def weight_of(policy: Policy, site: Site, leaf: LeafAllocation) -> float:
    demand = next(demand for demand in site.demands if demand.leaf_id == leaf.leaf_id)
    return demand.requested_kw if policy is Policy.PROPORTIONAL else demand.weight


def tier_of(policy: Policy, site: Site, leaf: LeafAllocation) -> float:
    demand = next(demand for demand in site.demands if demand.leaf_id == leaf.leaf_id)
    moment = {Policy.FIRST_COME: demand.arrived_at, Policy.EARLIEST_DEPARTURE: demand.departs_at}.get(policy)
    if policy is Policy.PRIORITY:
        return -demand.priority
    if policy in (Policy.FIRST_COME, Policy.EARLIEST_DEPARTURE):
        return moment.timestamp() if moment else float("inf")
    return 0


@laws
@given(site=sites(), policy=POLICIES)
def test_no_node_is_above_its_limit_and_no_leaf_above_its_request_or_below_its_minimum(site: Site, policy: Policy) -> None:
    result = allocated(allocate(site.nodes, site.demands, policy=policy))
    assert_within_limits(result)
    for leaf in result.leaves:
        assert 0.0 <= leaf.allocated_kw <= leaf.requested_kw
        assert leaf.allocated_kw == 0.0 or leaf.allocated_kw >= leaf.min_kw


@laws
@given(site=sites(), policy=POLICIES)
def test_a_leaf_has_all_it_asked_for_or_a_full_node_above_in_which_nobody_took_a_larger_share(site: Site, policy: Policy) -> None:
    result = allocated(allocate(site.nodes, site.demands, policy=policy))
    paths = site.paths()
    for leaf in result.leaves:
        if leaf.reason_code is None:
            assert leaf.allocated_kw == leaf.requested_kw
            continue
        assert leaf.allocated_kw < leaf.requested_kw
        if leaf.reason_code is ReasonCode.MINIMUM_POWER_NOT_ADMITTED:
            assert leaf.allocated_kw == 0.0
            continue
        assert leaf.binding_node_id in paths[leaf.leaf_id]
        node = result.node(leaf.binding_node_id)
        assert node is not None
        assert node.limit_kw is not None
        assert node.saturated
        used = node.allocated_kw + node.base_load_kw
        assert used >= node.limit_kw - close_kw(node.limit_kw)
        if leaf.allocated_kw == 0.0 and leaf.min_kw > 0.0:
            continue  # refused under an overloaded node, so it has no share to compare
        own_share = leaf.allocated_kw / weight_of(policy, site, leaf)
        for other in result.leaves:
            if node.node_id in paths[other.leaf_id] and tier_of(policy, site, other) >= tier_of(policy, site, leaf):
                above_minimum = other.allocated_kw > other.min_kw + close_kw(node.limit_kw)
                if above_minimum and tier_of(policy, site, other) == tier_of(policy, site, leaf):
                    weight = weight_of(policy, site, other)
                    assert other.allocated_kw <= weight * own_share + close_kw(node.limit_kw)
                elif above_minimum:
                    raise AssertionError(f"{other.leaf_id} of a later tier got power that {leaf.leaf_id} wanted")


@laws
@given(site=sites(), policy=POLICIES, step=st.sampled_from([None, 1.0, 0.1, 2.5]), seed=st.integers(0, 1000))
def test_the_order_of_the_input_changes_no_byte_of_the_output(site: Site, policy: Policy, step: float | None, seed: int) -> None:
    shuffle = random.Random(seed)
    nodes = [replace(node, limits=shuffle.sample(list(node.limits), len(node.limits))) for node in site.nodes]
    demands = list(site.demands)
    shuffle.shuffle(nodes)
    shuffle.shuffle(demands)
    result = allocate(site.nodes, site.demands, policy=policy, step_kw=step)
    assert repr(allocate(nodes, demands, policy=policy, step_kw=step)) == repr(result)


@laws
@given(site=sites(), policy=POLICIES, pick=st.integers(0, 100), above=st.booleans(), step=st.sampled_from([None, 1.0]))
def test_splitting_a_node_into_a_chain_of_itself_changes_nothing(
    site: Site, policy: Policy, pick: int, above: bool, step: float | None
) -> None:
    old = site.nodes[pick % len(site.nodes)]
    if above:
        chain = [replace(old, node_id="zz", base_load_kw=0.0), replace(old, parent_id="zz")]
        nodes = [row for node in site.nodes for row in (chain if node is old else [node])]
    else:
        # The lower half takes the children and the base load; a leaf stays the lower half itself.
        assume(old.kind is not NodeKind.CHARGE_POINT)
        upper = replace(old, base_load_kw=0.0)
        lower = PowerNode("zz", old.node_id, old.kind, old.limits, old.base_load_kw)
        others = [
            replace(node, parent_id="zz") if node.parent_id == old.node_id else node for node in site.nodes if node is not old
        ]
        nodes = [upper, lower, *others]
    before = allocated(allocate(site.nodes, site.demands, policy=policy, step_kw=step))
    after = allocated(allocate(nodes, site.demands, policy=policy, step_kw=step))
    assert before.outcome == after.outcome
    assert before.reason_codes == after.reason_codes
    for leaf, split in zip(before.leaves, after.leaves, strict=True):
        name = old.node_id if split.binding_node_id == "zz" else split.binding_node_id
        assert split._replace(binding_node_id=name) == leaf


@laws
@given(site=sites(tiers=False, base_loads=False), policy=POLICIES, step=st.sampled_from([None, 0.5]))
def test_a_flat_site_is_the_same_under_a_hierarchy_of_unlimited_nodes(site: Site, policy: Policy, step: float | None) -> None:
    unlimited = [
        node if node.parent_id is None or node.kind is NodeKind.CHARGE_POINT else replace(node, limits=()) for node in site.nodes
    ]
    flat = flat_site(site.nodes[0], [node for node in site.nodes if node.kind is NodeKind.CHARGE_POINT])
    with_hierarchy = allocated(allocate(unlimited, site.demands, policy=policy, step_kw=step))
    without = allocated(allocate(flat, site.demands, policy=policy, step_kw=step))
    assert with_hierarchy.leaves == without.leaves
    assert with_hierarchy.node("n0") == without.node("n0")


@laws
@given(
    site=sites(minima=False, tiers=False),
    policy=st.sampled_from([Policy.EQUAL, Policy.PROPORTIONAL]),
    pick=st.integers(0, 100),
    more=POWERS,
)
def test_more_capacity_anywhere_never_lowers_the_smallest_share(site: Site, policy: Policy, pick: int, more: float) -> None:
    old = site.nodes[pick % len(site.nodes)]
    wider = replace(
        old, limits=[replace(limit, value_kw=None if limit.value_kw is None else limit.value_kw + more) for limit in old.limits]
    )
    nodes = [wider if node is old else node for node in site.nodes]

    def smallest_share(rows: list[PowerNode]) -> float:
        leaves = allocated(allocate(rows, site.demands, policy=policy)).leaves
        return min((leaf.allocated_kw / weight_of(policy, site, leaf) for leaf in leaves if leaf.requested_kw), default=0.0)

    before = smallest_share(site.nodes)
    assert smallest_share(nodes) >= before - close_kw(before)


@laws
@given(site=sites(), policy=POLICIES)
def test_sums_over_a_node_are_sums_over_its_leaves(site: Site, policy: Policy) -> None:
    result = allocated(allocate(site.nodes, site.demands, policy=policy))
    paths = site.paths()
    for node in result.nodes:
        below = [leaf for leaf in result.leaves if node.node_id in paths[leaf.leaf_id]]
        scale = close_kw(node.demand_kw)
        assert abs(node.allocated_kw - sum(leaf.allocated_kw for leaf in below)) <= scale
        assert abs(node.demand_kw - sum(leaf.requested_kw for leaf in below)) <= scale
        bases = sum(row.base_load_kw for row in site.nodes if node.node_id in paths[row.node_id])
        assert abs(node.base_load_kw - bases) <= scale


@laws
@given(site=sites(), policy=POLICIES, step=st.sampled_from([None, 1.0, 0.1]))
def test_the_outcome_says_whether_every_demand_was_met(site: Site, policy: Policy, step: float | None) -> None:
    result = allocated(allocate(site.nodes, site.demands, policy=policy, step_kw=step))
    met = all(leaf.allocated_kw == leaf.requested_kw for leaf in result.leaves)
    assert result.outcome is (Outcome.APPLIED if met else Outcome.CURTAILED)
    assert [leaf.leaf_id for leaf in result.leaves] == sorted(demand.leaf_id for demand in site.demands)
    told = {leaf.reason_code for leaf in result.leaves if leaf.reason_code}
    assert told <= set(result.reason_codes)
    assert list(result.reason_codes) == [code for code in ReasonCode if code in result.reason_codes]
    assert all((leaf.reason_code is None) == (leaf.allocated_kw == leaf.requested_kw) for leaf in result.leaves)


@laws
@given(site=sites(), policy=POLICIES, plugs=st.lists(st.lists(POWERS, max_size=3), min_size=10, max_size=10), base_load=POWERS)
def test_the_charger_strategy_is_the_same_site_with_each_charge_point_limited_by_the_sum_of_its_connectors(
    site: Site, policy: Policy, plugs: list[list[float]], base_load: float
) -> None:
    by_plug = base_load / 4
    with_plugs: list[PowerNode] = []
    by_hand: list[PowerNode] = []
    for node in site.nodes:
        ratings = plugs[int(node.node_id[2:])] if node.kind is NodeKind.CHARGE_POINT else []
        with_plugs.append(node)
        with_plugs += [
            PowerNode(
                f"{node.node_id}-{i}", node.node_id, NodeKind.CONNECTOR, [Limit(rating, LimitSource.CIRCUIT_SAFE)], base_load / 4
            )
            for i, rating in enumerate(ratings)
        ]
        limits = [*node.limits, Limit(sum(ratings), LimitSource.CIRCUIT_SAFE)] if ratings else node.limits
        by_hand.append(replace(node, limits=limits, base_load_kw=node.base_load_kw + sum(by_plug for _ in ratings)))
    folded = allocated(allocate(with_plugs, site.demands, policy=policy, strategy=Strategy.CHARGER))
    assert {leaf.leaf_id: leaf.allocated_kw for leaf in folded.leaves} == pytest.approx(
        {leaf.leaf_id: leaf.allocated_kw for leaf in allocated(allocate(by_hand, site.demands, policy=policy)).leaves}, abs=1e-9
    )
    assert [node.node_id for node in folded.nodes] == sorted(node.node_id for node in site.nodes)
