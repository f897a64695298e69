"""How fast is the balancer, and beside what? `python bench/balancing.py`

First our own bars: median of repeated runs, rows in, result out; node rows are made when read, so the last column has them read.
Then, if `requirements-bench.lock` is installed, others on the same trees, and how many times as long each takes: acnportal's
round robin and first come, and a quadratic program (cvxpy with Clarabel), from the same rows and, favourably, built beforehand
and only solved with new numbers. A rival is left out of a larger size once it has taken more than five seconds. All of it is CPU
time, so that neighbours on the machine are left out; a line says how fast the machine was meanwhile.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from math import log

from load_balancer import Allocated, Demand, Limit, LimitSource, NodeKind, PowerNode, allocate

KINDS = (NodeKind.MICROGRID, NodeKind.GRID_CONNECTION, NodeKind.CHARGER_CIRCUIT, NodeKind.CHARGE_POINT, NodeKind.CONNECTOR)
Site = tuple[list[PowerNode], list[Demand]]

BARS: tuple[tuple[str, tuple[int, ...], int, float | None], ...] = (
    ("16 charge points", (1, 4, 4), 300, 0.2),
    ("1,024 charge points", (1, 32, 32), 60, 4.0),
    ("10,000 connectors, ten under each of ten", (10, 10, 10, 10), 15, 60.0),
    ("10,000 connectors, two to a charge point", (5, 20, 50, 2), 15, None),
)
GROWTH = ((1, 25, 40), (1, 100, 100), (1, 1000, 100))
MOST_GROWTH = 1.15
RIVAL_SIZES = ((1, 4, 4), (1, 8, 8), (1, 16, 16), (1, 32, 32))


def site(widths: Sequence[int], seed: int = 1) -> Site:
    """A tree with so many children at each level; random ratings, so that some nodes of every level bind."""
    draw = random.Random(seed)
    nodes: list[PowerNode] = []
    demands: list[Demand] = []

    def grow(node_id: str, parent_id: str | None, depth: int) -> None:
        below = 1
        for width in widths[depth:]:
            below *= width
        rating = below * draw.uniform(30, 90) if depth < len(widths) else 150.0
        nodes.append(PowerNode(node_id, parent_id, KINDS[depth], (Limit(rating, LimitSource.PHYSICAL_RATING),)))
        if depth == len(widths):
            demands.append(Demand(node_id, draw.uniform(5, 150)))
            return
        for child in range(widths[depth]):
            grow(f"{node_id}-{child:03}", node_id, depth + 1)

    grow("n", None, 0)
    return nodes, demands


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` runs after one to warm up, in ms; what a run returns is let go outside the measurement."""
    run()
    times: list[float] = []
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        times.append(time.process_time() - start)
        del result
    return statistics.median(times) * 1e3


def ours(of: Site) -> Allocated:
    result = allocate(*of)
    assert isinstance(result, Allocated)
    return result


def growth_ms() -> list[float]:
    """Medians for the sizes of `GROWTH`, in turns, so that a slow moment of the machine meets all of them."""
    trees = [site(widths) for widths in GROWTH]
    times: list[list[float]] = [[] for _ in GROWTH]
    for _ in range(7):
        for taken, tree, repeats in zip(times, trees, (15, 3, 1), strict=True):
            for _ in range(repeats):
                start = time.process_time()
                result = ours(tree)
                taken.append((time.process_time() - start) * 1e3)
                del result
    return [statistics.median(taken) for taken in times]


def own_bars() -> bool:
    """Print our own table; whether every bar was met."""
    print(f"{'tree':44} {'median':>10} {'at most':>9} {'all rows read':>14}")
    met = True
    for name, widths, repeats, most_ms in BARS:
        tree = site(widths)
        took = median_ms(lambda tree=tree: ours(tree), repeats)
        read = median_ms(lambda tree=tree: len(ours(tree).nodes), repeats)
        met = met and (most_ms is None or took <= most_ms)
        bar = f"{most_ms:.1f} ms" if most_ms else ""
        print(f"{name:44} {took:7.2f} ms {bar:>9} {read:11.2f} ms")
    small, middle, large = growth_ms()
    growth = log(large / small) / log(100)
    print(f"1,000 · 10,000 · 100,000 leaves: {small:.2f} · {middle:.1f} · {large:.0f} ms")
    print(f"growth exponent from the first to the last: {growth:.3f} (at most {MOST_GROWTH})")
    return met and growth <= MOST_GROWTH


def beside_rivals() -> None:
    """Print, for each size, our time and how many times as long the others take."""
    try:
        from balancing_rivals import RIVALS
    except ImportError as missing:
        print(f"\nno comparison: {missing} (install requirements-bench.lock)")
        return
    print(f"\n{'chargers':>8} {'ours':>10} " + " ".join(f"{name:>28}" for name in RIVALS))
    gone: set[str] = set()
    for widths in RIVAL_SIZES:
        tree = site(widths)
        expected = {leaf.leaf_id: leaf.allocated_kw for leaf in ours(tree).leaves}
        own_ms = median_ms(lambda tree=tree: ours(tree), 60)
        cells: list[str] = []
        for name, prepare in RIVALS.items():
            if name in gone:
                cells.append(f"{'left out':>28}")
                continue
            run = prepare(*tree)
            start = time.process_time()
            given = run()
            took = (time.process_time() - start) * 1e3
            if took < 1000:
                took = median_ms(run, 5)
            elif took > 5000:
                gone.add(name)
            apart = max(abs(given[leaf_id] - power) for leaf_id, power in expected.items())
            cells.append(f"{took:10.1f} ms {took / own_ms:6.0f}× ±{apart:4.1f}")
        print(f"{len(expected):8} {own_ms:7.2f} ms " + " ".join(cells))
    print("± is by how many kW its allocation differs most from the weighted max-min one")


def machine_speed() -> str:
    took = median_ms(lambda: sum([i * i for i in range(10_000)]), 100)
    return f"machine meanwhile: 10,000 squares in {took:.2f} ms, Python {sys.version.split()[0]}"


if __name__ == "__main__":
    print(machine_speed())
    all_met = own_bars()
    beside_rivals()
    print(machine_speed())
    sys.exit(0 if all_met else 1)
