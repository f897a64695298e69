"""Device profiles as values."""

from __future__ import annotations

from sensor_packet.device_profile import ProfileAction, ProfileMeasurand, load_profiles


def test_there_are_these_profiles() -> None:
    assert list(load_profiles()) == ["bba-microgrid-controller", "bess-meter", "generic", "sitepwrmon"]


def test_a_site_power_monitor_feeds_both_capabilities_by_their_own_names() -> None:
    assert load_profiles()["sitepwrmon"].measurands == (
        ProfileMeasurand("PEAK_SHAVING", "boolean", ProfileAction("UPDATE_MICROGRID_STATE", "PEAK_SHAVING"), ("PEAK_SHAVING",)),
        ProfileMeasurand("DER", "boolean", ProfileAction("UPDATE_MICROGRID_STATE", "DER"), ("DER",)),
    )


def test_a_generic_device_has_no_measurands() -> None:
    assert load_profiles()["generic"].measurands == ()
