"""Who may speak for whom, and what a changed configuration leaves behind: nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.microgrid.sites import action, site

from microgrid.directory import NotAuthorised, SiteDirectory
from microgrid.routing import DevicePlan
from microgrid.site_model import Depot, Device, Gateway, Site


def moved_to(depot_id: str, of: Site) -> Site:
    return replace(of, depot=Depot(depot_id, depot_id, "UTC"))


def test_a_gateway_speaks_for_its_own_device() -> None:
    assert isinstance(SiteDirectory([site()]).authorise("gw", "dev"), DevicePlan)


@pytest.mark.parametrize(
    ("gateway_id", "device_id", "code", "depot_id"),
    [
        ("gw", "nobody", "UNKNOWN_DEVICE", None),
        ("nobody", "nobody", "UNKNOWN_DEVICE", None),
        ("nobody", "dev", "UNKNOWN_DEVICE", "depot"),
        ("gw-2", "dev", "DEVICE_NOT_OWNED", "depot"),
        ("gw-3", "dev", "DEVICE_NOT_OWNED", "depot"),
        ("gw", "off", "DEVICE_DISABLED", "depot"),
        ("gw-2", "off", "DEVICE_NOT_OWNED", "depot"),
    ],
)
def test_nobody_else_speaks(gateway_id: str, device_id: str, code: str, depot_id: str | None) -> None:
    one = site()
    one = replace(
        one,
        gateways=(*one.gateways, Gateway("gw-2", "Second")),
        devices=(*one.devices, Device("off", "gw", None, None, enabled=False)),
    )
    other = replace(moved_to("depot-2", site()), gateways=(Gateway("gw-3", "Third"),), devices=())
    refused = SiteDirectory([one, other]).authorise(gateway_id, device_id)
    assert isinstance(refused, NotAuthorised)
    assert (refused.code, refused.depot_id) == (code, depot_id)


def test_a_changed_depot_changes_the_plans_of_its_devices() -> None:
    directory = SiteDirectory([site()])
    before = directory.authorise("gw", "dev")
    assert isinstance(before, DevicePlan)
    assert not before.actions
    directory.put(site(action("RECORD_MEASUREMENT", "SOC")))
    after = directory.authorise("gw", "dev")
    assert isinstance(after, DevicePlan)
    assert set(after.actions) == {"SOC"}


@pytest.mark.parametrize("new_home_first", [True, False])
def test_a_device_that_moved_belongs_to_its_new_depot_in_whatever_order_the_two_are_taken_in(new_home_first: bool) -> None:
    directory = SiteDirectory([site()])
    directory.authorise("gw", "dev")
    left = replace(site(), gateways=(), devices=())
    taken_in = [moved_to("depot-2", site()), left]
    for one in taken_in if new_home_first else reversed(taken_in):
        directory.put(one)
    plan = directory.authorise("gw", "dev")
    assert isinstance(plan, DevicePlan)
    assert plan.depot_id == "depot-2"


def test_a_removed_depot_takes_its_devices_along() -> None:
    directory = SiteDirectory([site()])
    directory.authorise("gw", "dev")
    directory.remove("depot")
    directory.remove("depot")
    refused = directory.authorise("gw", "dev")
    assert isinstance(refused, NotAuthorised)
    assert refused.code == "UNKNOWN_DEVICE"
    assert len(directory) == 0
