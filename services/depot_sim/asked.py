"""What an expectation may ask for, as a path such as `card.PEAK_SHAVING` or `circuit.available_capacity_kw`.

| path | what it is |
|---|---|
| `card.PEAK_SHAVING`, `card.DER` | the capability's operational status: `ON`, `OFF`, null before the first report |
| `card.PEAK_SHAVING.FIELD` | its `freshness`, `device_id` or `raw_value` |
| `card.remediation_count` | what the depot's people must settle |
| `circuit.FIELD` | `available_capacity_kw`, `uncut_kw`, `source`, `heartbeat` or `rule` of the controller's circuit |
| `power_source.KIND.FIELD` | `state`, `load_kw`, `soc_pct` or `freshness` of the depot's only power source of that kind |
| `measurement.KEY`, `measurement.KEY.freshness` | the latest value recorded by the only device that does, or by the controller |
| `event.TYPE` | how many such events the run has made after its first moment |
| `refused.CODE` | how many packets of the run were refused with that code, whole or in part |

None of them names an id, so that the same scenario can be run against another depot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard, cast

from sensor_packet.catalogue import CATALOGUE

_CAPABILITIES = ("PEAK_SHAVING", "DER")
_CAPABILITY_FIELDS = ("operational_status", "freshness", "device_id", "raw_value")
_CIRCUIT_FIELDS = ("available_capacity_kw", "uncut_kw", "source", "heartbeat", "rule")
_KINDS = ("GRID", "BATTERY", "SOLAR", "GENERATOR")
_SOURCE_FIELDS = ("state", "load_kw", "soc_pct", "freshness")
_MEASUREMENT_FIELDS = ("value", "freshness", "quality")
EVENT_TYPES = (
    "CapabilityStatusReported",
    "CircuitCapacityReported",
    "ControllerHeartbeatLost",
    "ControllerHeartbeatRestored",
    "MeasurementRecorded",
    "PowerSourceLoadReported",
    "PowerSourceStateReported",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A path, taken apart: `root`, which one of those (`name`, empty for the circuit), and which field of it."""

    path: str
    root: str
    name: str
    field: str


def read_asked(path: str) -> Asked | str:
    """The path taken apart, or why it leads nowhere."""
    root, *rest = path.split(".")
    match root, rest:
        case "card", ["remediation_count"]:
            return Asked(path, root, "", "remediation_count")
        case "card", [capability]:
            return _one(path, root, capability, _CAPABILITIES, "operational_status", _CAPABILITY_FIELDS)
        case "card", [capability, field]:
            return _one(path, root, capability, _CAPABILITIES, field, _CAPABILITY_FIELDS)
        case "circuit", [field]:
            return _one(path, root, "", ("",), field, _CIRCUIT_FIELDS)
        case "power_source", [kind, field]:
            return _one(path, root, kind, _KINDS, field, _SOURCE_FIELDS)
        case "measurement", [key]:
            return _one(path, root, key, tuple(CATALOGUE), "value", _MEASUREMENT_FIELDS)
        case "measurement", [key, field]:
            return _one(path, root, key, tuple(CATALOGUE), field, _MEASUREMENT_FIELDS)
        case "event", [event_type]:
            return _one(path, root, event_type, EVENT_TYPES, "count", ("count",))
        case "refused", [code] if code:
            return Asked(path, root, code, "count")
        case _:
            return (
                f"{path!r} leads nowhere; ask for card.CAPABILITY, circuit.FIELD, power_source.KIND.FIELD, measurement.KEY, "
                "event.TYPE or refused.CODE"
            )


def _one(path: str, root: str, name: str, names: tuple[str, ...], field: str, fields: tuple[str, ...]) -> Asked | str:
    if name not in names:
        return f"{path!r}: there is no {name!r}; there are {', '.join(names)}"
    if field not in fields:
        return f"{path!r}: there is no {field!r}; there are {', '.join(fields)}"
    return Asked(path, root, name, field)


def holds(expected: object, seen: object) -> bool:
    """Whether what is seen is what is expected: equal, numbers to a millionth, or within `{min, max}`."""
    if isinstance(expected, dict):
        bounds = cast("dict[str, float]", expected)
        return is_number(seen) and bounds.get("min", seen) <= seen <= bounds.get("max", seen)
    if is_number(expected) and is_number(seen):
        return abs(expected - seen) <= 1e-6 * max(1.0, abs(expected))
    return type(expected) is type(seen) and expected == seen


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number; a flag is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
