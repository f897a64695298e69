"""Controller bindings over HTTP, for tests: what is asked for, and what became of it."""

from __future__ import annotations

from typing import Any

from tests.command_api.conftest import T0, Origin

LIST = "/api/depot/d/controller-binding"
NOBODY = "01900000-0000-7000-8000-0000000000ff"
BOTH = [{"capability": "PEAK_SHAVING", "measurand": "PEAK_SHAVING"}, {"capability": "DER", "measurand": "DER"}]
DER = [{"capability": "DER", "measurand": "DER"}]
PS = [{"capability": "PEAK_SHAVING", "measurand": "PEAK_SHAVING"}]


def wanted(device_id: str = "dev", capabilities: Any = BOTH, **rest: Any) -> dict[str, Any]:
    return {"device_id": device_id, "capabilities": capabilities, **rest}


def one(binding: dict[str, Any]) -> str:
    return f"/api/controller-binding/{binding['controller_binding_id']}"


def said(binding: dict[str, Any]) -> tuple[str, bool, list[tuple[str, str]]]:
    """Device, switch and what feeds what."""
    feeds = [(feed["capability"], feed["measurand"]) for feed in binding["capabilities"]]
    return (binding["device_id"], binding["enabled"], feeds)


async def patch(origin: Origin, binding: dict[str, Any], body: Any, expected: int = 200, /) -> dict[str, Any]:
    return await origin.send("PATCH", one(binding), body, expected, if_match=f'"{binding["version"]}"')


async def actions_of(origin: Origin, device_id: str) -> list[dict[str, Any]]:
    """A device's actions that feed a capability, by measurand."""
    items = (await origin.get("/api/sensor_action", device_id=device_id))["items"]
    return sorted((item for item in items if item["capability"] is not None), key=lambda item: item["measurand"])


async def switches(origin: Origin, device_id: str) -> dict[str, bool]:
    return {action["measurand"]: action["enabled"] for action in await actions_of(origin, device_id)}


async def send_packet(origin: Origin, device_id: str, *keys: str, number: int = 1) -> list[tuple[str, str | None]]:
    """Outcome and code of each action of a packet with these keys on."""
    body = {
        "schema_version": "1.0",
        "packet_id": f"{device_id}-{number}-{'-'.join(keys)}",
        "gateway_id": "gw",
        "device_id": device_id,
        "sent_at": T0.isoformat(),
        "measurands": [{"key": key, "value": True} for key in keys],
    }
    return [(done["outcome"], done.get("code")) for done in (await origin.post("/api/packet", body, 200))["outcomes"]]
