"""Writes `contracts/balancing/*.json`: `python -m tests.load_balancer.write_scenarios`, then read the difference.

The inputs are stated here; the answers are what the balancer gives today, which the known answers and the laws hold to account.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.load_balancer.reference_sites import (
    C1_DEMANDS,
    C1_NODES,
    C2_DEMANDS,
    C2_NODES,
    C5_NODES,
    C5_PLUGS,
    C5_POINTS,
    asks,
    depot,
)

from load_balancer import Demand, Limit, LimitSource, NodeKind, Policy, PowerNode, Strategy
from load_balancer.json_form import Case, write_case, write_result

FOLDER = Path(__file__).parents[2] / "contracts" / "balancing"
SIX = datetime(2026, 3, 2, 6, tzinfo=UTC)


def limit(value_kw: float | None, source: LimitSource = LimitSource.PHYSICAL_RATING) -> tuple[Limit, ...]:
    return (Limit(value_kw, source),)


FLAT_NODES = (
    PowerNode("depot", None, NodeKind.MICROGRID, limit(90, LimitSource.CONTROLLER_CAPACITY), 10),
    PowerNode("cp-1", "depot", NodeKind.CHARGE_POINT, limit(22)),
    PowerNode("cp-2", "depot", NodeKind.CHARGE_POINT, limit(50)),
    PowerNode("cp-3", "depot", NodeKind.CHARGE_POINT, limit(50)),
)
FLAT_DEMANDS = (Demand("cp-1", 50), Demand("cp-2", 20), Demand("cp-3", 50))
UNDER_UNLIMITED = (
    FLAT_NODES[0],
    PowerNode("grid", "depot", NodeKind.GRID_CONNECTION),
    PowerNode("circuit", "grid", NodeKind.CHARGER_CIRCUIT, limit(None)),
    *(replace(node, parent_id="circuit") for node in FLAT_NODES[1:]),
)
SMALL = (
    PowerNode("depot", None, NodeKind.MICROGRID, limit(60, LimitSource.OPERATING_ENVELOPE)),
    *(PowerNode(leaf_id, "depot", NodeKind.CHARGE_POINT) for leaf_id in ("a", "b", "c")),
)
RANKED = (
    Demand("a", 30, priority=0, arrived_at=SIX + timedelta(hours=2), departs_at=SIX + timedelta(hours=4)),
    Demand("b", 45, weight=2, priority=7),
    Demand("c", 45, priority=7, arrived_at=SIX, departs_at=SIX + timedelta(hours=9)),
)
WAITING = tuple(
    Demand(leaf_id, 50, min_kw=25, without_power_since=None if hours is None else SIX - timedelta(hours=hours))
    for leaf_id, hours in (("a", None), ("b", 1), ("c", 2))
)
OVERLOADED = (
    PowerNode("GC", None, NodeKind.GRID_CONNECTION, limit(100)),
    PowerNode("K1", "GC", NodeKind.CHARGER_CIRCUIT, (*limit(60), *limit(40, LimitSource.CIRCUIT_SAFE)), 50),
    PowerNode("K2", "GC", NodeKind.CHARGER_CIRCUIT),
    PowerNode("K1-1", "K1", NodeKind.CHARGE_POINT),
    PowerNode("K2-1", "K2", NodeKind.CHARGE_POINT),
)
TREE, ASKS = tuple(depot(100, (60, 60), connectors=(0, 0))), tuple(asks((50, 50), (50, 50)))


def swapped(node_id: str, **fields: Any) -> tuple[PowerNode, ...]:
    return tuple(replace(node, **fields) if node.node_id == node_id else node for node in TREE)


SCENARIOS: dict[str, tuple[str, str, Case]] = {
    "c1-equal-demands": (
        "One small circuit, equal demands",
        "K1 is full at 15 kW per charge point; the grid connection gives the others 45 each.",
        Case(tuple(C1_NODES), tuple(C1_DEMANDS)),
    ),
    "c2-unequal-demands": (
        "Unequal demands, two circuits and the grid connection bind",
        "K2 and K3 are full by themselves, all others share what the grid connection has left.",
        Case(tuple(C2_NODES), tuple(C2_DEMANDS)),
    ),
    "c2-whole-steps": (
        "The same in steps of 1 kW",
        "Floors to 498 kW; the two left over go to the largest remainders, ties by id.",
        Case(tuple(C2_NODES), tuple(C2_DEMANDS), step_kw=1),
    ),
    "c5-connectors": (
        "Connector strategy under charge points",
        "The first charge point of each circuit has two connectors, each of which is a leaf of its own.",
        Case(tuple(C5_NODES), tuple(C5_PLUGS)),
    ),
    "c5-chargers": (
        "Charger strategy on the same site",
        "Each charge point is one leaf, however many connectors it has.",
        Case(tuple(C5_NODES), tuple(C5_POINTS), strategy=Strategy.CHARGER),
    ),
    "flat-site": ("A site without a hierarchy", "A root and its leaves, the smallest case.", Case(FLAT_NODES, FLAT_DEMANDS)),
    "flat-site-under-unlimited-nodes": (
        "The flat site under nodes without limits",
        "Leaves and root are exactly those of flat-site.",
        Case(UNDER_UNLIMITED, FLAT_DEMANDS),
    ),
    "zero-limit": (
        "Zero is nothing, null is no limit",
        "K1 may draw nothing, K2 whatever it likes.",
        Case(tuple(depot(None, (0, None), connectors=(0,))), tuple(asks((50,), (50,)))),
    ),
    "base-load-exceeds-limit": (
        "A base load above the limit",
        "K1's base load of 50 kW is above its limit of 40: nothing for its leaf, and it still uses 50 of the grid connection.",
        Case(OVERLOADED, (Demand("K1-1", 80), Demand("K2-1", 80))),
    ),
    "weights": ("Weights", "A weight of 2 makes a share twice as large.", Case(SMALL, RANKED)),
    "proportional": (
        "Proportional to the request",
        "All get the same part of what they asked for.",
        Case(SMALL, RANKED, policy=Policy.PROPORTIONAL),
    ),
    "priority": ("Priority tiers", "b and c share before a.", Case(SMALL, RANKED, policy=Policy.PRIORITY)),
    "first-come": (
        "First come",
        "c, then a; b, which does not say when it came, last.",
        Case(SMALL, RANKED, policy=Policy.FIRST_COME),
    ),
    "earliest-departure": ("Earliest departure", "a, then c, then b.", Case(SMALL, RANKED, policy=Policy.EARLIEST_DEPARTURE)),
    "minimum-not-admitted": (
        "Minima that do not all fit",
        "Two of three minima fit: the two that have waited longest are admitted.",
        Case(SMALL, WAITING),
    ),
    "minimum-above-request": (
        "A minimum above the request",
        "Admits nothing to that leaf and harms nobody else.",
        Case(SMALL, (Demand("a", 5, min_kw=6), Demand("b", 60, min_kw=6))),
    ),
    "step-rounding-only": (
        "Rounded down to steps",
        "Nothing but the step keeps this demand from being met.",
        Case(SMALL, (Demand("a", 10.5),), step_kw=1),
    ),
    "no-demand": ("Nobody asks", "Applied, with nothing to give.", Case(TREE, ())),
    "rejected-cycle": ("A cycle", "K1 and its charge point name each other.", Case(swapped("K1", parent_id="K1-1"), ASKS)),
    "rejected-orphan": ("An orphan", "K2's parent does not exist.", Case(swapped("K2", parent_id="K9"), ASKS)),
    "rejected-two-roots": ("Two roots", "K2 has no parent either.", Case(swapped("K2", parent_id=None), ASKS)),
    "rejected-id-twice": ("An id twice", "K1-1 stands in the list twice.", Case((*TREE, TREE[2]), ASKS)),
    "rejected-negative-limit": ("A negative limit", "Below zero there is no limit.", Case(swapped("K1", limits=limit(-1)), ASKS)),
    "rejected-unknown-leaf": ("A demand for an unknown leaf", "K9-9 is nowhere.", Case(TREE, (*ASKS, Demand("K9-9", 5)))),
    "rejected-no-leaf": ("A demand for a node that is no leaf", "K1 is a circuit.", Case(TREE, (*ASKS, Demand("K1", 5)))),
    "rejected-weight-zero": ("A weight of 0", "Shares are per weight.", Case(TREE, (Demand("K1-1", 5, weight=0),))),
    "rejected-negative-demand": ("A negative demand", "Nobody asks for less than nothing.", Case(TREE, (Demand("K1-1", -5),))),
}


def main() -> None:
    for name, (title, about, case) in SCENARIOS.items():
        expected = write_result(case.allocate())
        expected.pop("detail", None)
        document = {
            "$schema": "scenario.schema.json",
            "title": title,
            "about": about,
            "input": write_case(case),
            "expected": expected,
        }
        (FOLDER / f"{name}.json").write_text(_by_rows(document) + "\n", encoding="utf-8")


def _by_rows(document: dict[str, Any]) -> str:
    """JSON with one node, demand or leaf per line, as people read it."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    for part in ("input", "expected"):
        for key in ("nodes", "demands", "leaves"):
            for row in document[part].get(key, []):
                loose = json.dumps(row, indent=2, ensure_ascii=False).replace("\n", "\n" + " " * 6)
                text = text.replace(loose, json.dumps(row, ensure_ascii=False))
    return text


if __name__ == "__main__":
    main()
