"""An independent judge: linear programs that know the definition of weighted max-min fairness and nothing of water levels."""

from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tests.load_balancer.random_sites import Site, sites
from tests.load_balancer.reference_sites import C1_DEMANDS, C1_NODES, C2_DEMANDS, C2_NODES, allocated

from load_balancer import Allocated, Demand, Policy, allocate

solve: Any = import_module("scipy.optimize").linprog  # scipy has no types
judged = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Judge:
    """The site as inequalities over the demands: one row per limited node, bounds from minima and requests."""

    def __init__(self, site: Site, result: Allocated) -> None:
        paths = site.paths()
        self.demands = site.demands
        self.rows: list[list[float]] = []
        self.capacities: list[float] = []
        for node in result.nodes:
            if node.limit_kw is not None:
                self.rows.append([float(node.node_id in paths[demand.leaf_id]) for demand in site.demands])
                self.capacities.append(max(0.0, node.limit_kw - node.base_load_kw))
        given_kw = {leaf.leaf_id: leaf.allocated_kw for leaf in result.leaves}
        self.given_kw = [given_kw[demand.leaf_id] for demand in site.demands]
        # Who was admitted is decided before fairness; a leaf that was not takes part as one that asks for nothing.
        out = [demand.min_kw > 0 and given == 0 for demand, given in zip(site.demands, self.given_kw, strict=True)]
        self.least = [0.0 if gone else demand.min_kw for demand, gone in zip(site.demands, out, strict=True)]
        self.most = [0.0 if gone else demand.requested_kw for demand, gone in zip(site.demands, out, strict=True)]

    def most_for(self, leaf: int, floors: list[float]) -> float:
        """The most that `leaf` could get while every other keeps its floor."""
        gain = [0.0] * len(self.demands)
        gain[leaf] = -1.0
        bounds = [(min(low, high), high) for low, high in zip(floors, self.most, strict=True)]
        answer = solve(gain, A_ub=self.rows or None, b_ub=self.capacities or None, bounds=bounds, method="highs")
        assert answer.status == 0, answer.message
        return float(-answer.fun)


@judged
@given(site=sites(most_leaves=7, tiers=False))
def test_no_leaf_can_get_more_without_one_of_smaller_or_equal_share_getting_less(site: Site) -> None:
    result = allocated(allocate(site.nodes, site.demands))
    judge = Judge(site, result)
    shares = [given / demand.weight for given, demand in zip(judge.given_kw, site.demands, strict=True)]
    scale = max([1.0, *judge.most])
    for leaf, own in enumerate(judge.given_kw):
        # Whoever has a smaller or equal share keeps what it has; the others need no more than their minimum.
        keeps = [
            max(low, given - 1e-9 * scale) if share <= shares[leaf] * (1 + 1e-9) else low
            for low, given, share in zip(judge.least, judge.given_kw, shares, strict=True)
        ]
        assert judge.most_for(leaf, keeps) <= own + 1e-5 * scale


def sequential(judge: Judge) -> list[float]:
    """Max-min by a sequence of linear programs: raise the common level as far as it goes, fix whoever cannot rise, repeat."""
    weights = [demand.weight for demand in judge.demands]
    count = len(weights)
    fixed: dict[int, float] = {leaf: 0.0 for leaf in range(count) if judge.most[leaf] == 0.0}
    while len(fixed) < count:
        # Variables: the allocations, then the level. A rising leaf gets at least weight × level.
        rows = [[*row, 0.0] for row in judge.rows]
        capacities = list(judge.capacities)
        for leaf in range(count):
            if leaf not in fixed:
                rows.append([-1.0 if other == leaf else 0.0 for other in range(count)] + [weights[leaf]])
                capacities.append(0.0)
        bounds = [(fixed[i], fixed[i]) if i in fixed else (0.0, judge.most[i]) for i in range(count)] + [(0.0, None)]
        answer = solve([0.0] * count + [-1.0], A_ub=rows, b_ub=capacities, bounds=bounds, method="highs")
        assert answer.status == 0, answer.message
        level = float(answer.x[-1])
        floors = [fixed.get(i, min(weights[i] * level, judge.most[i])) for i in range(count)]
        slack = 1e-7 * max([1.0, *judge.most])
        eased = [max(0.0, floor - slack / 100) for floor in floors]
        stuck = [i for i in range(count) if i not in fixed and judge.most_for(i, eased) <= floors[i] + slack]
        assert stuck
        fixed.update({i: floors[i] for i in stuck})
    return [fixed[i] for i in range(count)]


@settings(judged, max_examples=30)
@given(site=sites(most_leaves=6, tiers=False, minima=False, weights=False))
def test_the_closed_form_agrees_with_a_sequence_of_linear_programs(site: Site) -> None:
    judge = Judge(site, allocated(allocate(site.nodes, site.demands)))
    assert judge.given_kw == pytest.approx(sequential(judge), abs=1e-4)


@pytest.mark.parametrize(("nodes", "demands"), [(C1_NODES, C1_DEMANDS), (C2_NODES, C2_DEMANDS)])
def test_the_known_answers_agree_with_a_sequence_of_linear_programs(nodes: list[Any], demands: list[Demand]) -> None:
    site = Site(nodes, demands)
    judge = Judge(site, allocated(allocate(site.nodes, site.demands)))
    assert judge.given_kw == pytest.approx(sequential(judge), abs=1e-4)


@judged
@given(site=sites(most_leaves=6, minima=False))
def test_an_earlier_tier_gets_what_it_would_get_alone(site: Site) -> None:
    """Tiers by priority: leaving the lower tiers out changes nothing for the highest."""
    highest = max(demand.priority for demand in site.demands)
    alone = [demand for demand in site.demands if demand.priority == highest]
    together = allocated(allocate(site.nodes, site.demands, policy=Policy.PRIORITY))
    for leaf in allocated(allocate(site.nodes, alone, policy=Policy.PRIORITY)).leaves:
        assert together.leaf(leaf.leaf_id) == leaf
