"""What kinds of device there are, which measurands each sends and what each of these usually does."""

from __future__ import annotations

from typing import Literal

import msgspec

from sensor_packet.contract_files import list_contracts, read_contract

FOLDER = "device-profiles"


class ProfileAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sensor action that a measurand gets; `capability` ("PEAK_SHAVING" or "DER") only with UPDATE_MICROGRID_STATE."""

    action: str
    capability: str | None = None


class ProfileMeasurand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measurand of a kind of device.

    `unit` is None for anything but a number; `action` is None where none is generated; `feeds` are the capabilities that it could
    feed, whether or not it does so by default.
    """

    key: str
    type: Literal["boolean", "number", "text"]
    action: ProfileAction | None
    feeds: tuple[str, ...]
    unit: str | None = None


class DeviceProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of device, its measurands in the order of its file."""

    profile: str
    title: str
    measurands: tuple[ProfileMeasurand, ...]


def load_profiles() -> dict[str, DeviceProfile]:
    """Read every profile from `contracts/device-profiles/`, by name in alphabetical order."""
    found = (msgspec.json.decode(read_contract(name), type=DeviceProfile) for name in list_contracts(FOLDER))
    return {profile.profile: profile for profile in found}
