# ruff: noqa: E501 - a sentence is compared as a whole
"""One sentence per leaf that an engineer can act on."""

import pytest

from load_balancer import Demand, Limit, LimitSource, NodeKind, PowerNode, allocate, explain


def node(
    node_id: str,
    parent_id: str | None,
    kind: NodeKind,
    limit: float | None = None,
    source: str = "PHYSICAL_RATING",
    base: float = 0,
) -> PowerNode:
    return PowerNode(node_id, parent_id, kind, (Limit(limit, LimitSource(source)),), base)


def site(limit: float | None, source: str = "PHYSICAL_RATING", base: float = 0, point: float | None = None) -> list[PowerNode]:
    return [
        node("GC", None, NodeKind.GRID_CONNECTION),
        node("K3", "GC", NodeKind.CHARGER_CIRCUIT, limit, source, base),
        *(node(f"cp-{i:02}", "K3", NodeKind.CHARGE_POINT, point) for i in range(7, 10)),
    ]


def asks(requested: float = 150, **fields: float) -> list[Demand]:
    return [Demand("cp-07", requested, **fields), Demand("cp-08", requested), Demand("cp-09", requested)]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("nodes", "demands", "step", "sentence"),
    [
        (site(100), asks(), None, "cp-07 gets 33.3 of 150 kW: charger circuit K3 is full (100 kW, circuit rating)"),
        (site(100, "CIRCUIT_SAFE"), asks(), None, "cp-07 gets 33.3 of 150 kW: charger circuit K3 is full (100 kW, circuit safe)"),
        (site(100, base=10), asks(), None, "cp-07 gets 30 of 150 kW: charger circuit K3 is full (100 kW, circuit rating, 10 kW of it base load)"),
        (site(None), asks(), None, "cp-07 gets all of the 150 kW it asked for"),
        (site(None), asks(0), None, "cp-07 gets all of the 0 kW it asked for"),
        (site(9, base=10.04), asks(), None, "cp-07 gets 0 of 150 kW: the base load of 10 kW under charger circuit K3 exceeds its limit (9 kW, circuit rating)"),
        (site(3), asks(min_kw=4), None, "cp-07 gets 0 of 150 kW: its minimum of 4 kW does not fit under charger circuit K3 (3 kW, circuit rating)"),
        (site(3), asks(3, min_kw=4), None, "cp-07 gets 0 of 3 kW: its minimum of 4 kW is more than it asked for"),
        (site(30), asks(4.8, min_kw=4.2), 1, "cp-07 gets 0 of 4.8 kW: no whole step lies between its minimum of 4.2 kW and what it asked for"),
        (site(None), asks(10.5), 1, "cp-07 gets 10 of 10.5 kW: rounded down to whole steps"),
        (site(None, point=22), asks(), None, "cp-07 gets 22 of 150 kW: that is all its own limit allows (22 kW, charge point rating)"),
        (site(0.06), asks(), None, "cp-07 gets 0.02 of 150 kW: charger circuit K3 is full (0.06 kW, circuit rating)"),
        (site(149.997), asks(50), None, "cp-07 gets 49.999 of 50 kW: charger circuit K3 is full (150 kW, circuit rating)"),
        (site(-1), asks(), None, "cp-07 gets nothing: the input was rejected (INVALID_TOPOLOGY: K3: limit -1 is not a power between 0 and 1000000000000000.0 kW)"),
    ],
)  # fmt: skip
def test_explain_is_one_sentence(nodes: list[PowerNode], demands: list[Demand], step: float | None, sentence: str) -> None:
    assert explain(allocate(nodes, demands, step_kw=step), "cp-07") == sentence


def test_a_leaf_that_did_not_ask_gets_a_sentence_too() -> None:
    assert explain(allocate(site(9), []), "cp-07") == "cp-07 gets nothing: it did not ask for power"
