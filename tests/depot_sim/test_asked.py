"""Paths of expectations, and when what is seen is what is expected."""

from __future__ import annotations

import pytest

from depot_sim.asked import Asked, holds, read_asked


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("card.DER", Asked("card.DER", "card", "DER", "operational_status")),
        ("card.DER.freshness", Asked("card.DER.freshness", "card", "DER", "freshness")),
        ("card.remediation_count", Asked("card.remediation_count", "card", "", "remediation_count")),
        ("circuit.source", Asked("circuit.source", "circuit", "", "source")),
        ("power_source.BATTERY.load_kw", Asked("power_source.BATTERY.load_kw", "power_source", "BATTERY", "load_kw")),
        ("measurement.SOC", Asked("measurement.SOC", "measurement", "SOC", "value")),
        ("event.ControllerHeartbeatLost", Asked("event.ControllerHeartbeatLost", "event", "ControllerHeartbeatLost", "count")),
        ("refused.CLOCK_SKEW", Asked("refused.CLOCK_SKEW", "refused", "CLOCK_SKEW", "count")),
    ],
)
def test_a_path_is_taken_apart(path: str, asked: Asked) -> None:
    assert read_asked(path) == asked


@pytest.mark.parametrize(
    "path", ["", "card", "card.X", "card.DER.x", "circuit", "circuit.x", "power_source.X.state", "event.X", "refused."]
)
def test_a_path_that_leads_nowhere_is_told(path: str) -> None:
    assert isinstance(read_asked(path), str)


@pytest.mark.parametrize(
    ("expected", "seen", "held"),
    [
        ("ON", "ON", True),
        ("ON", "OFF", False),
        ("ON", None, False),
        (None, None, True),
        (None, 0, False),
        (0, None, False),
        (0, False, False),
        (True, True, True),
        (True, 1, False),
        (350, 350.0, True),
        (350, 350.0000001, True),
        (350, 351, False),
        ({"min": 1}, 1, True),
        ({"min": 1}, 0.9, False),
        ({"min": 1, "max": 2}, 3, False),
        ({"max": 2}, None, False),
        ({"max": 2}, True, False),
        ("5", 5, False),
    ],
)
def test_what_is_seen_is_what_is_expected(expected: object, seen: object, held: bool) -> None:
    assert holds(expected, seen) is held
