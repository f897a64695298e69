"""Which gateways send garbage is told with few series, the worst of late first."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from service_runtime.noisy_gateways import REMEMBERED, SHOWN, UNKNOWN, NoisyGateways


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def shown(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["gateway_id"], sample.labels["reason_code"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "depotgrid_gateway_dead_letters_total"
    }


def test_letters_are_counted_by_gateway_and_code() -> None:
    registry = CollectorRegistry()
    gateways = NoisyGateways(registry)
    gateways.count({("MALFORMED_JSON", "gw-1"): 2, ("CLOCK_SKEW", "gw-1"): 1, ("MALFORMED_JSON", None): 5})
    gateways.count({("MALFORMED_JSON", "gw-1"): 1})
    assert shown(registry) == {
        ("gw-1", "MALFORMED_JSON"): 3,
        ("gw-1", "CLOCK_SKEW"): 1,
        (UNKNOWN, "MALFORMED_JSON"): 5,
    }


def test_however_many_gateways_there_are_the_worst_few_are_shown() -> None:
    registry = CollectorRegistry()
    gateways = NoisyGateways(registry)
    gateways.count({("X", f"gw-{number}"): number for number in range(1, 3 * REMEMBERED)})
    assert len(shown(registry)) == SHOWN
    assert max(shown(registry).values()) == 3 * REMEMBERED - 1


def test_a_flood_of_an_hour_ago_makes_room_for_what_happens_now_and_comes_back_with_its_count() -> None:
    registry, clock = CollectorRegistry(), Clock()
    gateways = NoisyGateways(registry, clock)
    gateways.count({("X", f"old-{number}"): 1_000 for number in range(SHOWN)})
    clock.now_s = 7_200
    gateways.count({("X", f"new-{number}"): 10 for number in range(SHOWN)})
    assert {gateway for gateway, _ in shown(registry)} == {f"new-{number}" for number in range(SHOWN)}
    gateways.count({("X", "old-3"): 11})
    assert shown(registry)["old-3", "X"] == 1_011


def test_a_name_that_is_too_long_is_cut() -> None:
    registry = CollectorRegistry()
    NoisyGateways(registry).count({("X", "g" * 100_000): 1})
    assert list(shown(registry)) == [("g" * 64, "X")]
