"""Allocations in whole steps: below every limit by any reckoning, with nothing left over that somebody could still use."""

from math import fsum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.load_balancer.random_sites import Site, sites
from tests.load_balancer.reference_sites import allocated
from tests.load_balancer.reference_sites import given as given_kw

from load_balancer import Demand, Outcome, Policy, PowerNode, ReasonCode, allocate
from load_balancer.power_tree import Limit, LimitSource, NodeKind
from load_balancer.step_rounding import round_up, steps_kw

STEPS = st.sampled_from([1.0, 0.5, 2.5, 0.1, 0.7, 1 / 3, 11.0])


def site(limit_kw: float, leaves: str, base_load_kw: float = 0.0) -> list[PowerNode]:
    return [
        PowerNode("site", None, NodeKind.MICROGRID, (Limit(limit_kw, LimitSource.OPERATOR_LIMIT),), base_load_kw),
        *(PowerNode(leaf_id, "site", NodeKind.CHARGE_POINT) for leaf_id in leaves),
    ]


@settings(max_examples=70, deadline=None)
@given(site=sites(), policy=st.sampled_from(Policy), step=STEPS)
def test_no_sum_exceeds_a_limit_at_all(site: Site, policy: Policy, step: float) -> None:
    result = allocated(allocate(site.nodes, site.demands, policy=policy, step_kw=step))
    paths = site.paths()
    for node in result.nodes:
        if node.limit_kw is not None and node.base_load_kw <= node.limit_kw:
            assert node.allocated_kw + node.base_load_kw <= node.limit_kw
            below = [leaf.allocated_kw for leaf in result.leaves if node.node_id in paths[leaf.leaf_id]]
            assert fsum([*below, node.base_load_kw]) <= node.limit_kw


@settings(max_examples=50, deadline=None)
@given(site=sites(), policy=st.sampled_from(Policy), step=STEPS)
def test_every_allocation_is_whole_steps_within_its_request_and_its_minimum(site: Site, policy: Policy, step: float) -> None:
    for leaf in allocated(allocate(site.nodes, site.demands, policy=policy, step_kw=step)).leaves:
        count = round(leaf.allocated_kw / step)
        assert leaf.allocated_kw == steps_kw(count, step) == pytest.approx(count * step, rel=1e-12)
        assert leaf.allocated_kw <= leaf.requested_kw
        assert leaf.allocated_kw == 0.0 or leaf.allocated_kw >= leaf.min_kw


@settings(max_examples=50, deadline=None)
@given(site=sites(), policy=st.sampled_from(Policy), step=st.sampled_from([1.0, 0.5, 2.5]))
def test_no_step_is_left_that_somebody_could_use(site: Site, policy: Policy, step: float) -> None:
    result = allocated(allocate(site.nodes, site.demands, policy=policy, step_kw=step))
    rows = {node.node_id: node for node in result.nodes}
    paths = site.paths()
    for leaf in result.leaves:
        refused = leaf.min_kw and not leaf.allocated_kw
        if refused or leaf.allocated_kw + step > leaf.requested_kw:
            continue
        above = [rows[node_id] for node_id in paths[leaf.leaf_id]]
        assert any(
            node.limit_kw is not None and node.allocated_kw + node.base_load_kw + step > node.limit_kw * (1 - 1e-12)
            for node in above
        )


@pytest.mark.parametrize(
    ("limit", "requests", "expected"),
    [
        (10, {"a": 9, "b": 9, "c": 9}, {"a": 4, "b": 3, "c": 3}),
        (11, {"a": 9, "b": 9, "c": 9}, {"a": 4, "b": 4, "c": 3}),
        (10.9, {"a": 9, "b": 9, "c": 9}, {"a": 4, "b": 3, "c": 3}),
        (10, {"a": 2.5, "b": 9, "c": 9}, {"a": 2, "b": 4, "c": 4}),
        (10, {"a": 0.5, "b": 2.5, "c": 20}, {"a": 0, "b": 2, "c": 8}),
        (12, {"a": 4, "b": 4, "c": 4}, {"a": 4, "b": 4, "c": 4}),
        (0.9, {"a": 4}, {"a": 0}),
    ],
)
def test_the_remainder_goes_out_by_largest_remainder_then_id(
    limit: float, requests: dict[str, float], expected: dict[str, float]
) -> None:
    nodes = site(limit, "".join(requests))
    assert given_kw(allocate(nodes, [Demand(leaf, power) for leaf, power in requests.items()], step_kw=1)) == expected


def test_a_weight_gives_the_larger_remainder() -> None:
    demands = [Demand("a", 50), Demand("b", 50, weight=2)]
    assert given_kw(allocate(site(10, "ab"), demands, step_kw=1)) == {"a": 3, "b": 7}


def test_a_demand_missed_only_by_rounding_says_so() -> None:
    result = allocated(allocate(site(100, "a"), [Demand("a", 10.5)], step_kw=1))
    assert (result.outcome, result.reason_codes) == (Outcome.CURTAILED, (ReasonCode.STEP_ROUNDING,))
    assert (result.leaves[0].reason_code, result.leaves[0].binding_node_id) == (ReasonCode.STEP_ROUNDING, None)


def test_a_demand_that_a_step_from_the_remainder_meets_has_no_reason() -> None:
    result = allocated(allocate(site(9.98, "ab"), [Demand("a", 5), Demand("b", 50)], step_kw=1))
    assert [(leaf.allocated_kw, leaf.reason_code) for leaf in result.leaves] == [(5, None), (4, ReasonCode.MICROGRID_LIMIT)]
    assert result.reason_codes == (ReasonCode.MICROGRID_LIMIT, ReasonCode.STEP_ROUNDING)


def test_an_earlier_tier_gets_the_remainder_before_a_later_one_shares() -> None:
    demands = [Demand("a", 9, priority=1), Demand("b", 9, priority=1), Demand("c", 9)]
    assert given_kw(allocate(site(19, "abc"), demands, policy=Policy.PRIORITY, step_kw=2)) == {"a": 8, "b": 8, "c": 2}


@pytest.mark.parametrize(
    ("limit", "minimum", "requested", "expected"),
    [(20, 4.2, 22, 20), (4.9, 4.2, 22, 0), (5, 4.2, 22, 5), (20, 4.2, 4.8, 0), (20, 4.0, 4.8, 4)],
)
def test_a_minimum_counts_in_whole_steps(limit: float, minimum: float, requested: float, expected: float) -> None:
    assert given_kw(allocate(site(limit, "a"), [Demand("a", requested, min_kw=minimum)], step_kw=1)) == {"a": expected}


@pytest.mark.parametrize(
    ("limit", "base", "step", "requested", "expected"),
    [(5.1, 1.1, 1, 9, 4), (4.7, 2.7, 1, 9, 2), (0.3, 0, 0.1, 0.3, 0.3), (33.3, 0, 0.1, 50, 33.3), (1e9 + 0.5, 1e9, 0.5, 9, 0.5)],
)
def test_a_step_that_fits_in_floats_is_given(limit: float, base: float, step: float, requested: float, expected: float) -> None:
    assert given_kw(allocate(site(limit, "a", base), [Demand("a", requested)], step_kw=step)) == {"a": expected}


@given(power=st.floats(0, 1e4), step=STEPS)
def test_rounding_up_is_the_smallest_number_of_steps_that_suffices(power: float, step: float) -> None:
    up = round_up(power, step)
    count = round(up / step)
    assert up == steps_kw(count, step) >= power
    assert count == 0 or steps_kw(count - 1, step) < power
