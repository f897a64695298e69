"""What an expectation sees: the value at its path, in the product as it is now.

None stands for what is not there: no such capability on the card, no measurement yet, a value that the product does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from depot_sim.asked import Asked
from depot_sim.configuration import Depot
from depot_sim.product import Product
from depot_sim.projection import recorder_of
from depot_sim.traces import Traces


class Sight:
    """Looks at one depot for one run."""

    def __init__(self, product: Product, depot: Depot, traces: Traces) -> None:
        self._product = product
        self._depot = depot
        self._traces = traces

    async def look(self, asked: Asked) -> Any:
        """The value at a path."""
        match asked.root:
            case "event":
                return self._traces.event_count(asked.name)
            case "refused":
                return self._traces.refusal_count(asked.name)
            case "measurement":
                device_id = recorder_of(self._depot, asked.name)
                found = await self._product.measurement(device_id, asked.name) if device_id else None
                return found.get(asked.field) if found else None
            case _:
                return self._on_card(await self._product.card(self._depot.depot_id) or {}, asked)

    def _on_card(self, card: Mapping[str, Any], asked: Asked) -> Any:
        if asked.root == "circuit":
            circuit_id = next((self._depot.circuit_of(one) for one in self._depot.controllers()), None)
            return _first(card.get("circuits", ()), "circuit_id", circuit_id).get(asked.field)
        if asked.root == "power_source":
            return _first(card.get("power_sources", ()), "kind", asked.name).get(asked.field)
        if asked.field == "remediation_count":
            return card.get("remediation_count")
        whole_site = [one for one in card.get("capabilities", ()) if one["scope"]["node_id"] is None]
        entry = _first(whole_site, "capability", asked.name)
        if asked.field == "device_id":
            return entry["source"]["device_id"] if entry.get("source") else None
        return entry.get("detail", {}).get("raw_value") if asked.field == "raw_value" else entry.get(asked.field)


def lasting_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """What of a card is the same at the end of every run: no times or ids, no counts over several runs, no heartbeats."""
    return {
        "capabilities": [
            {
                "capability": one["capability"],
                "scope": one["scope"]["name"],
                "operational_status": one["operational_status"],
                "device_id": one["source"]["device_id"] if one["source"] else None,
                "raw_value": one["detail"]["raw_value"],
            }
            for one in card["capabilities"]
        ],
        "power_sources": [
            {name: one[name] for name in ("power_source_id", "kind", "state", "load_kw", "soc_pct")}
            for one in card["power_sources"]
        ],
    }


def _first(entries: Iterable[Mapping[str, Any]], name: str, value: object) -> Mapping[str, Any]:
    nothing: Mapping[str, Any] = {}
    return next((one for one in entries if one[name] == value), nothing)
