"""What a policy is: an order of tiers and a weight, nothing more.

Leaves with an equal tier key share one tier; tiers are served in ascending order of the key, each from what the ones before
it left. Within a tier a leaf's share grows with its weight. A leaf that does not say when it arrived, or when it leaves, is
served after all that do.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

from load_balancer.power_tree import Demand


class Policy(StrEnum):
    """How leaves are ranked and weighed; see `RULES`."""

    EQUAL = "EQUAL"
    PROPORTIONAL = "PROPORTIONAL"
    PRIORITY = "PRIORITY"
    FIRST_COME = "FIRST_COME"
    EARLIEST_DEPARTURE = "EARLIEST_DEPARTURE"


class PolicyRule(NamedTuple):
    """`tier`: the tier's sort key, lower first; `None` puts all leaves into one tier. `weight`: `None` is the demand's own."""

    tier: Callable[[Demand], float | datetime] | None
    weight: Callable[[Demand], float] | None


_NEVER: Final = datetime.max.replace(tzinfo=UTC)


def _highest_priority_first(demand: Demand) -> float:
    return -demand.priority


def _arrival(demand: Demand) -> datetime:
    return demand.arrived_at or _NEVER


def _departure(demand: Demand) -> datetime:
    return demand.departs_at or _NEVER


def _requested(demand: Demand) -> float:
    return demand.requested_kw


RULES: Final = {
    Policy.EQUAL: PolicyRule(tier=None, weight=None),
    Policy.PROPORTIONAL: PolicyRule(tier=None, weight=_requested),
    Policy.PRIORITY: PolicyRule(tier=_highest_priority_first, weight=None),
    Policy.FIRST_COME: PolicyRule(tier=_arrival, weight=None),
    Policy.EARLIEST_DEPARTURE: PolicyRule(tier=_departure, weight=None),
}
