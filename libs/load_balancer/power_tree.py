"""What goes in: the power nodes of a site, their limits, and what each leaf asks for.

Power in kW. `None` is "no limit", `0` is zero. Identifiers are opaque strings, unique over the site. A row is never changed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final


class NodeKind(StrEnum):
    """What a power node is, from the site as a whole down to a plug."""

    MICROGRID = "MICROGRID"
    GRID_CONNECTION = "GRID_CONNECTION"
    CHARGER_CIRCUIT = "CHARGER_CIRCUIT"
    CHARGE_POINT = "CHARGE_POINT"
    CONNECTOR = "CONNECTOR"


class LimitSource(StrEnum):
    """Where a limit comes from. Of two equal limits the one whose source stands first here is named."""

    PHYSICAL_RATING = "PHYSICAL_RATING"
    OPERATING_ENVELOPE = "OPERATING_ENVELOPE"
    OPERATOR_LIMIT = "OPERATOR_LIMIT"
    SCHEDULE = "SCHEDULE"
    CONTROLLER_CAPACITY = "CONTROLLER_CAPACITY"
    CIRCUIT_DEFAULT = "CIRCUIT_DEFAULT"
    CIRCUIT_SAFE = "CIRCUIT_SAFE"


class Strategy(StrEnum):
    """Whom the power is given to: each connector, or each charge point as a whole."""

    CONNECTOR = "CONNECTOR"
    CHARGER = "CHARGER"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `value_kw` may flow through a node, and who says so. `None` is no limit, `0` is nothing at all."""

    value_kw: float | None
    source: LimitSource


@dataclass(frozen=True, slots=True)
class PowerNode:
    """One node of the site's power tree. The root has no `parent_id`; of several limits the smallest counts.

    `base_load_kw` is load that nobody here controls; it uses capacity of this node and of every node above it.
    """

    node_id: str
    parent_id: str | None
    kind: NodeKind
    limits: Sequence[Limit] = ()
    base_load_kw: float = 0.0


@dataclass(frozen=True, slots=True)
class Demand:
    """What one leaf asks for: at most `requested_kw`, at least `min_kw` or else nothing.

    `weight` scales its share among equals, a higher `priority` is served earlier (policy `PRIORITY`). The three times are
    timezone-aware: `arrived_at` and `departs_at` order the policies of those names, `without_power_since` orders the
    admission of leaves that have a minimum (`None`: has power now, so may wait).
    """

    leaf_id: str
    requested_kw: float
    min_kw: float = 0.0
    weight: float = 1.0
    priority: int = 0
    arrived_at: datetime | None = None
    departs_at: datetime | None = None
    without_power_since: datetime | None = None


MOST_KW: Final = 1e15
"""A number above this is a fault, not a power: sums of smaller ones cannot overflow. "No limit" is `None`."""

WEIGHTS: Final = (1e-15, 1e15)
"""The smallest and the largest weight that can be reckoned with."""

SMALLEST_STEP_KW: Final = 1e-6
"""The finest `step_kw`: a milliwatt."""


def flat_site(root: PowerNode, leaves: Iterable[PowerNode]) -> tuple[PowerNode, ...]:
    """The smallest site: `leaves` hung directly under `root`, whatever parent they named.

    For a site without a hierarchy, and for one whose hierarchy was rejected. Limits between root and leaves are then not
    known, so the caller gives the root a limit that is safe without them.
    """
    return (replace(root, parent_id=None), *(replace(leaf, parent_id=root.node_id) for leaf in leaves))
