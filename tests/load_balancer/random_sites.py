"""Random sites for the laws: trees up to depth 7 with every awkward number a real site may hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from load_balancer import Demand, Limit, LimitSource, NodeKind, PowerNode

DEEPEST = 7
START = datetime(2026, 1, 1, tzinfo=UTC)

# Whole, zero, repeating and arbitrary powers: ties and exact fits come from the first, rounding errors from the others.
POWERS = st.one_of(
    st.integers(0, 12).map(lambda n: n * 10.0),
    st.integers(0, 60).map(lambda n: n / 10),
    st.integers(1, 50).map(lambda n: n * 11 / 3),
    st.floats(0, 150, allow_nan=False, allow_subnormal=False),
)
WEIGHTS = st.one_of(st.just(1.0), st.sampled_from([0.001, 0.5, 2.0, 3.0, 1000.0]), st.floats(1e-3, 1e3))
LIMITS = st.lists(
    st.builds(Limit, st.one_of(st.none(), POWERS, POWERS.map(lambda p: 3 * p)), st.sampled_from(LimitSource)), max_size=2
)
MOMENTS = st.one_of(st.none(), st.integers(0, 5).map(lambda n: START + timedelta(hours=n)))
INNER_KINDS = st.sampled_from([NodeKind.MICROGRID, NodeKind.GRID_CONNECTION, NodeKind.CHARGER_CIRCUIT])


@dataclass(frozen=True)
class Site:
    """An input, and for each node the ids from itself to the root."""

    nodes: list[PowerNode]
    demands: list[Demand]

    def paths(self) -> dict[str, list[str]]:
        parent_of = {node.node_id: node.parent_id for node in self.nodes}
        paths: dict[str, list[str]] = {}
        for node in self.nodes:
            path: list[str] = []
            at: str | None = node.node_id
            while at is not None:
                path.append(at)
                at = parent_of[at]
            paths[node.node_id] = path
        return paths


def shapes(most_inner: int) -> st.SearchStrategy[list[int]]:
    """For each inner node but the root, which earlier one it hangs under (taken modulo what depth allows)."""
    return st.lists(st.integers(0, 50), max_size=most_inner)


def sites(
    *, minima: bool = True, weights: bool = True, tiers: bool = True, most_leaves: int = 10, base_loads: bool = True
) -> st.SearchStrategy[Site]:
    """Sites of any shape, and such as bind at several levels at once."""
    return st.one_of(
        any_sites(minima=minima, weights=weights, tiers=tiers, most_leaves=most_leaves, base_loads=base_loads),
        tight_sites(minima=minima, weights=weights, tiers=tiers, most_leaves=most_leaves),
    )


@st.composite
def tight_sites(draw: st.DrawFn, *, minima: bool, weights: bool, tiers: bool, most_leaves: int) -> Site:
    """A grid connection over up to three circuits, each limited to a part of what is asked for below it."""
    under: list[int] = draw(st.lists(st.integers(1, 3), min_size=2, max_size=most_leaves))
    demands = [
        Demand(
            f"cp{number}",
            requested_kw=draw(st.sampled_from([5.0, 11.0, 22.0, 50.0, 100 / 3, 150.0])),
            min_kw=draw(st.sampled_from([0.0, 0.0, 1.4, 4.0, 11 / 3])) if minima else 0.0,
            weight=draw(WEIGHTS) if weights else 1.0,
            priority=draw(st.integers(0, 1)) if tiers else 0,
            arrived_at=draw(MOMENTS) if tiers else None,
            departs_at=draw(MOMENTS) if tiers else None,
        )
        for number in range(len(under))
    ]
    parts = st.sampled_from([0.3, 0.45, 0.6, 0.75, 0.9, 1.0, 1.1])
    total = 0.0
    nodes: list[PowerNode] = []
    for circuit in range(1, 4):
        asked = sum(demand.requested_kw for demand, parent in zip(demands, under, strict=True) if parent == circuit)
        limit = Limit(asked * draw(parts), LimitSource.PHYSICAL_RATING)
        total += min(asked, limit.value_kw or 0.0)
        nodes.append(PowerNode(f"n{circuit}", "n0", NodeKind.CHARGER_CIRCUIT, [limit]))
    grid = Limit(total * draw(parts), LimitSource.OPERATING_ENVELOPE)
    nodes.insert(0, PowerNode("n0", None, NodeKind.GRID_CONNECTION, [grid]))
    nodes += [PowerNode(f"cp{number}", f"n{parent}", NodeKind.CHARGE_POINT) for number, parent in enumerate(under)]
    return Site(nodes, demands)


@st.composite
def any_sites(
    draw: st.DrawFn,
    *,
    minima: bool,
    weights: bool,
    tiers: bool,
    most_leaves: int,
    base_loads: bool,
) -> Site:
    """A site whose leaves are charge points at any depth from 1 to 7."""
    depths = [0]
    nodes = [PowerNode("n0", None, draw(INNER_KINDS), draw(LIMITS), _base_load(draw, base_loads))]
    for number, pick in enumerate(draw(shapes(9)), 1):
        under = [i for i, depth in enumerate(depths) if depth < DEEPEST - 1]
        # The newest node twice as often, so that deep trees come up.
        parent = under[-1] if pick % 3 == 0 else under[pick % len(under)]
        depths.append(depths[parent] + 1)
        nodes.append(PowerNode(f"n{number}", f"n{parent}", draw(INNER_KINDS), draw(LIMITS), _base_load(draw, base_loads)))
    demands: list[Demand] = []
    parents: Sequence[int] = draw(st.lists(st.integers(0, len(depths) - 1), min_size=1, max_size=most_leaves))
    for number, parent in enumerate(parents):
        leaf_id = f"cp{number}"
        nodes.append(PowerNode(leaf_id, f"n{parent}", NodeKind.CHARGE_POINT, draw(st.one_of(st.just([]), LIMITS))))
        demands.append(
            Demand(
                leaf_id,
                requested_kw=draw(POWERS),
                min_kw=draw(st.sampled_from([0.0, 0.0, 1.4, 4.0, 6.9, 11 / 3, 60.0])) if minima else 0.0,
                weight=draw(WEIGHTS) if weights else 1.0,
                priority=draw(st.integers(0, 2)) if tiers else 0,
                arrived_at=draw(MOMENTS) if tiers else None,
                departs_at=draw(MOMENTS) if tiers else None,
                without_power_since=draw(MOMENTS) if minima else None,
            )
        )
    return Site(nodes, demands)


def _base_load(draw: st.DrawFn, base_loads: bool) -> float:
    return draw(st.one_of(st.just(0.0), st.just(0.0), POWERS.map(lambda power: power / 4))) if base_loads else 0.0
