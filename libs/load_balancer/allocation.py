"""What comes out: who got how much, and why; or why nothing could be allocated.

Lists are sorted by identifier, reason codes by their precedence, so equal inputs give equal outputs, byte for byte.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from typing import Final, NamedTuple, overload

from load_balancer.power_tree import LimitSource, NodeKind


class Outcome(StrEnum):
    """`APPLIED`: every demand met. `CURTAILED`: at least one not."""

    APPLIED = "APPLIED"
    CURTAILED = "CURTAILED"


class ReasonCode(StrEnum):
    """Why a demand was not met, or an input not used. The order here is the precedence in every list of codes."""

    INVALID_TOPOLOGY = "INVALID_TOPOLOGY"
    INVALID_DEMAND = "INVALID_DEMAND"
    BASE_LOAD_EXCEEDS_LIMIT = "BASE_LOAD_EXCEEDS_LIMIT"
    MICROGRID_LIMIT = "MICROGRID_LIMIT"
    GRID_CONNECTION_LIMIT = "GRID_CONNECTION_LIMIT"
    CHARGER_CIRCUIT_LIMIT = "CHARGER_CIRCUIT_LIMIT"
    CHARGE_POINT_LIMIT = "CHARGE_POINT_LIMIT"
    CONNECTOR_LIMIT = "CONNECTOR_LIMIT"
    MINIMUM_POWER_NOT_ADMITTED = "MINIMUM_POWER_NOT_ADMITTED"
    STEP_ROUNDING = "STEP_ROUNDING"


LIMIT_REASON: Final = {
    NodeKind.MICROGRID: ReasonCode.MICROGRID_LIMIT,
    NodeKind.GRID_CONNECTION: ReasonCode.GRID_CONNECTION_LIMIT,
    NodeKind.CHARGER_CIRCUIT: ReasonCode.CHARGER_CIRCUIT_LIMIT,
    NodeKind.CHARGE_POINT: ReasonCode.CHARGE_POINT_LIMIT,
    NodeKind.CONNECTOR: ReasonCode.CONNECTOR_LIMIT,
}


# The two row types are named tuples because a large site makes tens of thousands per run and a frozen dataclass costs five
# times as much to make.
class LeafAllocation(NamedTuple):
    """One leaf that asked. Met in full: `reason_code`, `binding_node_id` and `binding_source` are `None`.

    Otherwise `reason_code` says why, and `binding_node_id` which node (the leaf itself included) was full, with the source
    of that node's limit; both are `None` where no node is to blame (rounding; a minimum above the request).
    """

    leaf_id: str
    allocated_kw: float
    requested_kw: float
    min_kw: float
    binding_node_id: str | None
    binding_source: LimitSource | None
    reason_code: ReasonCode | None


class NodeAllocation(NamedTuple):
    """One node. `allocated_kw`, `base_load_kw` and `demand_kw` are sums over the node and all below it.

    So `allocated_kw + base_load_kw` is what flows through it, never above `limit_kw` unless the base load alone is.
    `saturation_level` is the share (kW per unit of weight) at which this node alone would be full, in the first tier that
    could fill it, `None` if no tier could; `saturated` says whether it really was, which an earlier bottleneck may prevent.
    """

    node_id: str
    parent_id: str | None
    kind: NodeKind
    allocated_kw: float
    base_load_kw: float
    demand_kw: float
    limit_kw: float | None
    limit_source: LimitSource | None
    saturated: bool
    saturation_level: float | None


class NodeRows(Sequence[NodeAllocation]):
    """The node rows, made when they are first read: a caller that only wants the leaves' power does not wait for them.

    To the reader a tuple; `make` gives that tuple and is called once.
    """

    __slots__ = ("_make", "_rows")

    def __init__(self, make: Callable[[], tuple[NodeAllocation, ...]]) -> None:
        self._make: Callable[[], tuple[NodeAllocation, ...]] | None = make
        self._rows: tuple[NodeAllocation, ...] = ()

    def _read(self) -> tuple[NodeAllocation, ...]:
        make = self._make
        if make is not None:
            self._rows = make()
            self._make = None
        return self._rows

    @overload
    def __getitem__(self, index: int) -> NodeAllocation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[NodeAllocation, ...]: ...
    def __getitem__(self, index: int | slice) -> NodeAllocation | tuple[NodeAllocation, ...]:
        return self._read()[index]

    def __len__(self) -> int:
        return len(self._read())

    def __iter__(self) -> Iterator[NodeAllocation]:
        return iter(self._read())

    def __eq__(self, other: object) -> bool:
        return self._read() == (other._read() if isinstance(other, NodeRows) else other)

    def __hash__(self) -> int:
        return hash(self._read())

    def __repr__(self) -> str:
        return repr(self._read())


@dataclass(frozen=True, slots=True)
class Allocated:
    """A usable input's result. `leaves` and `nodes` are sorted by id; `reason_codes[0]` is the primary reason."""

    outcome: Outcome
    leaves: tuple[LeafAllocation, ...]
    nodes: NodeRows
    reason_codes: tuple[ReasonCode, ...]

    def leaf(self, leaf_id: str) -> LeafAllocation | None:
        """The row of that leaf; `None` if it asked for nothing."""
        at = bisect_left(self.leaves, leaf_id, key=itemgetter(0))
        return self.leaves[at] if at < len(self.leaves) and self.leaves[at].leaf_id == leaf_id else None

    def node(self, node_id: str) -> NodeAllocation | None:
        """The row of that node; `None` if the balanced tree has none of that id."""
        at = bisect_left(self.nodes, node_id, key=itemgetter(0))
        return self.nodes[at] if at < len(self.nodes) and self.nodes[at].node_id == node_id else None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input that cannot be balanced: the codes, the ids at fault (sorted), and one sentence per fault."""

    reason_codes: tuple[ReasonCode, ...]
    node_ids: tuple[str, ...]
    detail: str
