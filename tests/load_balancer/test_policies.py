"""What each policy means, by example."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from tests.load_balancer.reference_sites import given

from load_balancer import Demand, Limit, LimitSource, NodeKind, Policy, PowerNode, allocate

EARLY = datetime(2026, 3, 1, 6, tzinfo=UTC)
LATE = EARLY + timedelta(hours=2)
SITE = [
    PowerNode("site", None, NodeKind.MICROGRID, (Limit(60, LimitSource.OPERATING_ENVELOPE),)),
    *(PowerNode(leaf_id, "site", NodeKind.CHARGE_POINT) for leaf_id in "abc"),
]
DEMANDS = [
    Demand("a", 30, weight=1, priority=0, arrived_at=LATE, departs_at=EARLY + timedelta(hours=9)),
    Demand("b", 45, weight=2, priority=7, arrived_at=None, departs_at=None),
    Demand("c", 45, weight=1, priority=7, arrived_at=EARLY, departs_at=EARLY + timedelta(hours=3)),
]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy.EQUAL, {"a": 15, "b": 30, "c": 15}),
        (Policy.PROPORTIONAL, {"a": 15, "b": 22.5, "c": 22.5}),
        (Policy.PRIORITY, {"a": 0, "b": 40, "c": 20}),
        (Policy.FIRST_COME, {"a": 15, "b": 0, "c": 45}),
        (Policy.EARLIEST_DEPARTURE, {"a": 15, "b": 0, "c": 45}),
    ],
)
def test_a_policy_is_an_order_of_tiers_and_a_weight(policy: Policy, expected: dict[str, float]) -> None:
    assert given(allocate(SITE, DEMANDS, policy=policy)) == pytest.approx(expected)


def test_a_policy_may_be_named_by_its_text() -> None:
    assert allocate(SITE, DEMANDS, policy="PRIORITY") == allocate(SITE, DEMANDS, policy=Policy.PRIORITY)  # pyright: ignore[reportArgumentType]


def test_who_arrived_at_the_same_instant_shares_whatever_the_offset() -> None:
    west = EARLY.astimezone(timezone(timedelta(hours=-7)))
    demands = [Demand("a", 50, arrived_at=EARLY), Demand("b", 50, arrived_at=west), Demand("c", 50, arrived_at=LATE)]
    assert given(allocate(SITE, demands, policy=Policy.FIRST_COME)) == {"a": 30, "b": 30, "c": 0}


@pytest.mark.parametrize(
    "last",
    [datetime.max.replace(tzinfo=timezone(timedelta(hours=14))), datetime.max.replace(tzinfo=timezone(-timedelta(hours=12)))],
)
def test_the_last_moment_there_is_can_be_compared_too(last: datetime) -> None:
    demands = [Demand("a", 60, arrived_at=last, min_kw=1, without_power_since=last), Demand("b", 60)]
    assert sum(given(allocate(SITE, demands, policy=Policy.FIRST_COME)).values()) == pytest.approx(60)


@pytest.mark.parametrize("policy", Policy)
def test_a_request_of_zero_is_met_with_nothing_under_every_policy(policy: Policy) -> None:
    demands = [Demand("a", 0), Demand("b", 80)]
    assert given(allocate(SITE, demands, policy=policy)) == {"a": 0, "b": 60}


@pytest.mark.parametrize("limit", [1 / 3, 0.7, 10 / 3, 33.1, 57.7, 100.1])
def test_a_later_tier_under_a_full_node_gets_exactly_nothing(limit: float) -> None:
    site = [PowerNode("site", None, NodeKind.MICROGRID, (Limit(limit, LimitSource.SCHEDULE),))]
    site += [PowerNode(leaf_id, "site", NodeKind.CHARGE_POINT) for leaf_id in "abcdef"]
    demands = [
        Demand(leaf, 150, weight=weight, priority=1) for leaf, weight in zip("abcde", (0.1, 0.7, 1.1, 3, 1 / 3), strict=True)
    ]
    assert given(allocate(site, [*demands, Demand("f", 150)], policy=Policy.PRIORITY))["f"] == 0.0
