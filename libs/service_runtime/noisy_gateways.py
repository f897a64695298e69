"""Which gateways send garbage, as a metric with few series: the worst of late, by reason code.

A metric must not have a series for each gateway there is, and a gateway's name may be anything that a sender says. So the counts of
all are held in memory up to a bound, and the twenty that were worst of late are shown: each count weighs half after ten minutes, so
a flood of yesterday makes room for that of today. What is shown is the plain count since the process began, which only grows, so
that rates can be taken of it. A gateway that falls out of the twenty loses its series, and has it back with its count when it
returns; one that falls out of memory, where a thousand others were worse, begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

SHOWN = 20
REMEMBERED = 1_000
_HALF_LIFE_S = 600.0
_LONGEST_NAME = 64
UNKNOWN = "unknown"
"""The name of a packet's gateway where nothing says it."""


@dataclass
class _Gateway:
    letters: dict[str, int] = field(default_factory=dict[str, int])
    weight: float = 0.0
    weighed_at: float = 0.0

    def weight_at(self, moment: float) -> float:
        return self.weight * 0.5 ** ((moment - self.weighed_at) / _HALF_LIFE_S)


class NoisyGateways(Collector):
    """Counts dead letters by gateway and reason code; a collector of the registry. `clock` gives seconds."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._gateways: dict[str, _Gateway] = {}
        registry.register(self)

    def count(self, by_cause: Mapping[tuple[str, str | None], int]) -> None:
        """Packets were set aside, by reason code and gateway."""
        now = self._clock()
        for (reason_code, gateway_id), letters in by_cause.items():
            name = UNKNOWN if gateway_id is None else gateway_id[:_LONGEST_NAME]
            if name not in self._gateways and len(self._gateways) >= REMEMBERED:
                del self._gateways[min(self._gateways, key=lambda one: self._gateways[one].weight_at(now))]
            gateway = self._gateways.setdefault(name, _Gateway())
            gateway.letters[reason_code] = gateway.letters.get(reason_code, 0) + letters
            gateway.weight, gateway.weighed_at = gateway.weight_at(now) + letters, now

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The worst of late, for `/metrics`."""
        now = self._clock()
        family = CounterMetricFamily(
            "depotgrid_gateway_dead_letters",
            f"Packets set aside, of the {SHOWN} gateways with most of late, by reason",
            labels=("gateway_id", "reason_code"),
        )
        worst = sorted(self._gateways, key=lambda one: (-self._gateways[one].weight_at(now), one))[:SHOWN]
        for name in worst:
            for reason_code, letters in sorted(self._gateways[name].letters.items()):
                family.add_metric((name, reason_code), letters)
        yield family
