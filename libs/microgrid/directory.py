"""Who is who, in memory: the devices and gateways of all depots, and the plan of each device.

A worker asks it for every packet, so it answers from dictionaries. Plans are made when a device first reports, and thrown away
with their depot's configuration when that changes.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from microgrid.routing import DevicePlan, plan_device
from microgrid.site_model import Site


class NotAuthorised(msgspec.Struct, frozen=True):
    """Why a packet's sender may not speak: `UNKNOWN_DEVICE`, `DEVICE_NOT_OWNED` or `DEVICE_DISABLED`."""

    code: str
    detail: str
    depot_id: str | None


class SiteDirectory:
    """The configuration of all depots, replaced depot by depot."""

    def __init__(self, sites: Iterable[Site] = ()) -> None:
        self._sites: dict[str, Site] = {}
        self._depot_of_device: dict[str, str] = {}
        self._depot_of_gateway: dict[str, str] = {}
        self._plans: dict[str, DevicePlan] = {}
        for site in sites:
            self.put(site)

    def __len__(self) -> int:
        return len(self._sites)

    def site(self, depot_id: str) -> Site | None:
        """A depot's configuration."""
        return self._sites.get(depot_id)

    def depot_ids(self) -> set[str]:
        """The depots that are known."""
        return set(self._sites)

    def depot_of(self, device_id: str | None) -> str | None:
        """The depot of a device, if it is known."""
        return self._depot_of_device.get(device_id) if device_id is not None else None

    def gateway_of(self, device_id: str) -> str | None:
        """The gateway that speaks for a device, if it is known."""
        plan = self._plans.get(device_id) or self._make_plan(device_id)
        return None if plan is None else plan.gateway_id

    def put(self, site: Site) -> None:
        """Take in a depot, in place of what was known of it."""
        depot_id = site.depot.depot_id
        self.remove(depot_id)
        self._sites[depot_id] = site
        for device in site.devices:
            self._depot_of_device[device.device_id] = depot_id
            self._plans.pop(device.device_id, None)
        for gateway in site.gateways:
            self._depot_of_gateway[gateway.gateway_id] = depot_id

    def remove(self, depot_id: str) -> None:
        """Forget a depot."""
        site = self._sites.pop(depot_id, None)
        if site is None:
            return
        for device in site.devices:
            # A device may have moved to a depot that was taken in before.
            if self._depot_of_device.get(device.device_id) == depot_id:
                del self._depot_of_device[device.device_id]
                self._plans.pop(device.device_id, None)
        for gateway in site.gateways:
            if self._depot_of_gateway.get(gateway.gateway_id) == depot_id:
                del self._depot_of_gateway[gateway.gateway_id]

    def authorise(self, gateway_id: str, device_id: str) -> DevicePlan | NotAuthorised:
        """The plan of a device, if this gateway may speak for it: a gateway speaks for its own devices only."""
        plan = self._plans.get(device_id) or self._make_plan(device_id)
        if plan is None:
            return NotAuthorised("UNKNOWN_DEVICE", f"no device {device_id} is configured", None)
        if plan.gateway_id != gateway_id:
            if gateway_id not in self._depot_of_gateway:
                return NotAuthorised("UNKNOWN_DEVICE", f"no gateway {gateway_id} is configured", plan.depot_id)
            detail = f"device {device_id} belongs to gateway {plan.gateway_id}, not to {gateway_id}"
            return NotAuthorised("DEVICE_NOT_OWNED", detail, plan.depot_id)
        if not plan.enabled:
            return NotAuthorised("DEVICE_DISABLED", f"device {device_id} is disabled", plan.depot_id)
        return plan

    def _make_plan(self, device_id: str) -> DevicePlan | None:
        depot_id = self._depot_of_device.get(device_id)
        if depot_id is None:
            return None
        site = self._sites[depot_id]
        plan = plan_device(site, site.device_by_id[device_id])
        self._plans[device_id] = plan
        return plan
