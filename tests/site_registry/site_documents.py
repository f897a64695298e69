"""Site documents at random that contradict themselves nowhere, for laws that hold for every site."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_PROFILES = (None, "generic", "bba-microgrid-controller", "sitepwrmon", "bess-meter")
_FEEDS = {
    None: ("PEAK_SHAVING", "DER", "MY_FLAG", "BESS_OPERATIONAL_MODE"),
    "generic": ("PEAK_SHAVING", "DER", "MY_FLAG"),
    "bba-microgrid-controller": ("PEAK_SHAVING", "DER", "LIMIT_DER_EXPORT", "BESS_OPERATIONAL_MODE", "HEARTBEAT_STATUS"),
    "sitepwrmon": ("PEAK_SHAVING", "DER"),
    "bess-meter": (),
}
_MEASURANDS = ("SOC", "ACTIVE_POWER", "PEAK_SHAVING", "DER", "BESS_OPERATIONAL_MODE", "LIMIT_DER_EXPORT", "own_key")
_names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(lambda name: bool(name.strip()))
_kw = st.one_of(st.none(), st.just(0), st.floats(0, 1e6), st.integers(0, 1000))


@st.composite
def site_documents(draw: st.DrawFn, depot_id: str = "d") -> dict[str, Any]:
    """A document for `parse_site`, with at least one top-level circuit, ids beginning with the depot's."""
    circuits = draw(_circuits(depot_id))
    circuit_ids: list[str] = [circuit["circuit_id"] for circuit in circuits]
    some_circuit = st.sampled_from(circuit_ids)
    points: list[dict[str, Any]] = [
        {
            "charge_point_id": f"{depot_id}-cp{n}",
            "circuit_id": draw(some_circuit),
            "name": draw(_names),
            "max_kw": draw(st.floats(0, 400)),
        }
        for n in range(draw(st.integers(0, 2)))
    ]
    sources: list[dict[str, Any]] = [
        {
            "power_source_id": f"{depot_id}-s{n}",
            "circuit_id": draw(st.one_of(st.none(), some_circuit)),
            "kind": draw(st.sampled_from(("GRID", "BATTERY", "SOLAR", "GENERATOR"))),
            "name": draw(_names),
            "rated_kw": draw(_kw),
        }
        for n in range(draw(st.integers(0, 2)))
    ]
    gateways = [draw(_gateway(f"{depot_id}-g{n}", [one["power_source_id"] for one in sources])) for n in range(2)]
    devices: list[dict[str, Any]] = [
        {
            "device_id": f"{depot_id}-v{n}",
            "gateway_id": draw(st.sampled_from(gateways))["gateway_id"],
            "circuit_id": draw(st.one_of(st.none(), some_circuit)),
            "profile": draw(st.sampled_from(_PROFILES)),
            "enabled": draw(st.booleans()),
        }
        for n in range(draw(st.integers(0, 3)))
    ]
    bindings = draw(_bindings(devices))
    return {
        "depot": {"depot_id": depot_id, "name": draw(_names), "timezone": draw(st.sampled_from(("UTC", "Australia/Perth")))},
        "circuits": draw(st.permutations(circuits)),
        "charge_points": points,
        "connectors": [
            {
                "connector_id": one["charge_point_id"] + "-1",
                "charge_point_id": one["charge_point_id"],
                "number": 1,
                "max_kw": draw(_kw),
            }
            for one in points
        ],
        "power_sources": sources,
        "gateways": gateways,
        "devices": draw(st.permutations(devices)),
        "sensor_actions": draw(_actions(devices, sources, circuit_ids, bindings)),
        "controller_bindings": bindings,
    }


@st.composite
def _circuits(draw: st.DrawFn, depot_id: str) -> list[dict[str, Any]]:
    circuits: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 4))):
        above = [circuit["circuit_id"] for circuit in circuits]
        circuits.append(
            {
                "circuit_id": f"{depot_id}-c{number}",
                "parent_circuit_id": draw(st.one_of(st.none(), st.sampled_from(above))) if above else None,
                "name": draw(_names),
                "position": draw(st.integers(-3, 3)),
                "rating_kw": draw(_kw),
                "safe_capacity_kw": draw(_kw),
            }
        )
    return circuits


@st.composite
def _gateway(draw: st.DrawFn, gateway_id: str, sources: list[str]) -> dict[str, Any]:
    model = draw(st.one_of(st.none(), _names))
    loads = st.dictionaries(st.sampled_from(("k1", "k2")), st.just("UPDATE_POWER_SOURCE_LOAD"))
    return {
        "gateway_id": gateway_id,
        "name": draw(_names),
        "site_model_name": model,
        "model_outputs": draw(loads) if model else {},
        "output_translation": draw(st.dictionaries(st.sampled_from(("k1", "SOC")), st.sampled_from(sources))) if sources else {},
    }


@st.composite
def _bindings(draw: st.DrawFn, devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    owned: set[str] = set()
    bindings: list[dict[str, Any]] = []
    for device in devices:
        feeds = _FEEDS[device["profile"]]
        able = [one for one in ("PEAK_SHAVING", "DER") if feeds and not (device["profile"] == "sitepwrmon" and one not in feeds)]
        chosen = [one for one in able if draw(st.booleans())]
        if not chosen:
            continue
        enabled = draw(st.booleans()) and not owned.intersection(chosen)
        if enabled:
            owned.update(chosen)
        bindings.append(
            {
                "device_id": device["device_id"],
                "enabled": enabled,
                "stale_after_s": draw(st.sampled_from((1, 120, 300.5, 86_400))),
                "capabilities": [{"capability": one, "measurand": draw(st.sampled_from(feeds))} for one in chosen],
            }
        )
    return bindings


@st.composite
def _actions(
    draw: st.DrawFn,
    devices: list[dict[str, Any]],
    sources: list[dict[str, Any]],
    circuits: list[str],
    bindings: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    bound = {binding["device_id"] for binding in bindings}
    for _ in range(draw(st.integers(0, 5)) if devices else 0):
        device = draw(st.sampled_from(devices))
        kinds = ["RECORD_MEASUREMENT", "UPDATE_CIRCUIT_CAPACITY", "UPDATE_POWER_SOURCE_LOAD", "UPDATE_MICROGRID_STATE"]
        action = draw(st.sampled_from(kinds))
        entry: dict[str, Any] = {
            "device_id": device["device_id"],
            "measurand": draw(st.sampled_from(_MEASURANDS)),
            "action": action,
            "enabled": draw(st.booleans()),
            "scale": draw(st.sampled_from((None, 2, 0.5))),
        }
        if action == "UPDATE_MICROGRID_STATE":
            if not _FEEDS[device["profile"]] or device["device_id"] in bound:
                continue
            entry["measurand"] = draw(st.sampled_from(_FEEDS[device["profile"]]))
            entry["capability"] = draw(st.sampled_from(("PEAK_SHAVING", "DER")))
            # Enabled it would claim what a binding may have given to another device.
            entry["enabled"] = False
        if action == "UPDATE_POWER_SOURCE_LOAD" and sources:
            entry["power_source_id"] = draw(st.one_of(st.none(), st.sampled_from([one["power_source_id"] for one in sources])))
        if action == "UPDATE_CIRCUIT_CAPACITY":
            entry["circuit_id"] = draw(st.one_of(st.none(), st.sampled_from(circuits)))
            entry["heartbeat_timeout_s"] = draw(st.sampled_from((None, 30)))
        key = tuple(entry.get(name) for name in ("device_id", "measurand", "action", "capability", "power_source_id", "circuit_id"))
        found.setdefault(key, entry)
    return list(found.values())
