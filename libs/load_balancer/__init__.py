"""Shares a site's power among its chargers under every limit at once, and says why each got what it got.

Standard library only; no I/O, no clock. Start with `allocate`; its module states the rule.
"""

from load_balancer.allocate import allocate
from load_balancer.allocation import Allocated, LeafAllocation, NodeAllocation, Outcome, ReasonCode, Rejected
from load_balancer.explain import explain
from load_balancer.policies import Policy
from load_balancer.power_tree import Demand, Limit, LimitSource, NodeKind, PowerNode, Strategy, flat_site

__all__ = [
    "Allocated",
    "Demand",
    "LeafAllocation",
    "Limit",
    "LimitSource",
    "NodeAllocation",
    "NodeKind",
    "Outcome",
    "Policy",
    "PowerNode",
    "ReasonCode",
    "Rejected",
    "Strategy",
    "allocate",
    "explain",
    "flat_site",
]
