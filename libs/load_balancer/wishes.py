"""What the leaves ask for, in columns in the tree's order, and in which tiers they are served."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from load_balancer.policies import RULES, Policy
from load_balancer.power_tree import MOST_KW, WEIGHTS, Demand
from load_balancer.tree import Tree, UnusableError


@dataclass(slots=True)
class Wishes:
    """Columns over the demands, in the order of the tree; `spots` are the leaves' positions in it.

    `least_kw` is the minimum as it is granted: `minimum_kw`, brought up to whole steps if there are any. `weight` is 0 only
    where `requested_kw` is. `tiers` holds the numbers of the demands of each tier, first tier first.
    """

    demands: list[Demand]
    spots: list[int]
    requested_kw: list[float]
    minimum_kw: list[float]
    least_kw: list[float]
    weight: list[float]
    tiers: list[list[int]]


def read_wishes(tree: Tree, demands: Sequence[Demand], policy: Policy) -> Wishes:
    """The demands on the leaves of `tree`. Raises `UnusableError` (or what a wrongly typed row provokes) if one is unusable."""
    at = [tree.leaf_at[demand.leaf_id] for demand in demands]
    order = sorted(range(len(at)), key=at.__getitem__)
    spots = list(map(at.__getitem__, order))
    ordered = list(map(demands.__getitem__, order))
    if len(set(spots)) != len(spots):
        raise UnusableError
    least_weight, most_weight = WEIGHTS
    for demand in ordered:
        if not (
            0.0 <= demand.requested_kw <= MOST_KW
            and 0.0 <= demand.min_kw <= MOST_KW
            and least_weight <= demand.weight <= most_weight
            and -MOST_KW <= demand.priority <= MOST_KW
            and (demand.arrived_at is None or is_aware(demand.arrived_at))
            and (demand.departs_at is None or is_aware(demand.departs_at))
            and (demand.without_power_since is None or is_aware(demand.without_power_since))
        ):
            raise UnusableError
    requested = [demand.requested_kw + 0.0 for demand in ordered]
    minimum = [demand.min_kw + 0.0 for demand in ordered]
    rule = RULES[policy]
    own_weight = [demand.weight + 0.0 for demand in ordered]
    weight = own_weight if rule.weight is None else [rule.weight(demand) for demand in ordered]
    if rule.tier is None:
        tiers = [list(range(len(ordered)))]
    else:
        members: dict[float | datetime, list[int]] = {}
        for number, demand in enumerate(ordered):
            members.setdefault(rule.tier(demand), []).append(number)
        tiers = [members[key] for key in sorted(members)]  # pyright: ignore[reportArgumentType]
    return Wishes(ordered, spots, requested, minimum, minimum, weight, tiers)


def is_aware(moment: datetime) -> bool:
    """Whether `moment` says which offset from UTC it means."""
    return moment.utcoffset() is not None
