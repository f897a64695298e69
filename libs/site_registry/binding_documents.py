"""How a controller binding looks over HTTP: the same for who asks for it and for who has just changed it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from event_store.database import Connection
from event_store.last_report import last_reports
from microgrid.capability import freshness
from microgrid.controller_bindings import ControllerBinding
from microgrid.events import Event
from microgrid.report_facts import received_at
from microgrid.site_model import ControlPoint, Site
from microgrid.subjects import capability_subject
from site_registry.site_references import supported_capabilities


@dataclass(frozen=True, slots=True)
class BoundCapability:
    """A capability of a binding, the measurand that feeds it, and what its device itself has last reported of it.

    `last_reported_at` is null, and `freshness` `NEVER_REPORTED`, where the device has not, or others have for long.
    """

    capability: str
    measurand: str
    control_point_id: str
    last_reported_at: datetime | None
    freshness: str


@dataclass(frozen=True, slots=True)
class ControllerBindingDocument:
    """Which capabilities of a microgrid a device owns, or would own once enabled; `node_id` null is the whole site.

    `supported_capabilities` are those that the device's profile can feed; `version` grows with each change, not with reports.
    """

    controller_binding_id: str
    depot_id: str
    microgrid_id: str
    device_id: str
    node_id: str | None
    enabled: bool
    stale_after_s: float
    supported_capabilities: tuple[str, ...]
    capabilities: tuple[BoundCapability, ...]
    version: int


async def describe_bindings(
    connection: Connection, site: Site, bindings: Iterable[ControllerBinding], now: datetime
) -> list[ControllerBindingDocument]:
    """The documents of bindings of a site's microgrid, in their order, as of `now`."""
    microgrid = site.microgrid
    if microgrid is None:
        return []
    found = list(bindings)
    asked = {point: _asked(microgrid.microgrid_id, point) for binding in found for point in binding.points}
    reports = await last_reports(connection, asked.values())
    return [
        _document(site, microgrid.microgrid_id, binding, {point: reports.get(asked[point]) for point in binding.points}, now)
        for binding in found
    ]


def _asked(microgrid_id: str, point: ControlPoint) -> tuple[str, str]:
    return (capability_subject(microgrid_id, point.node_id, point.capability), point.device_id)


def _document(
    site: Site, microgrid_id: str, binding: ControllerBinding, reports: dict[ControlPoint, Event | None], now: datetime
) -> ControllerBindingDocument:
    device = site.device_by_id.get(binding.device_id)

    def bound(point: ControlPoint) -> BoundCapability:
        last = reports[point]
        observed_at = last.observed_at if last is not None else None
        age = freshness(observed_at, received_at(last) if last is not None else None, binding.stale_after_s, now)
        return BoundCapability(point.capability, point.measurand, point.control_point_id, observed_at, age.freshness)

    return ControllerBindingDocument(
        binding.controller_binding_id,
        site.depot.depot_id,
        microgrid_id,
        binding.device_id,
        binding.node_id,
        binding.enabled,
        binding.stale_after_s,
        supported_capabilities(device.profile if device else None),
        tuple(bound(point) for point in binding.points),
        binding.version,
    )
