"""The device profiles follow their schema, the catalogue and the rule of what feeds what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sensor_packet.catalogue import CATALOGUE
from sensor_packet.contract_files import list_contracts, read_contract
from sensor_packet.device_profile import load_profiles

PROFILES = load_profiles()
SCHEMA: dict[str, Any] = json.loads(read_contract("device-profile.schema.json"))
VALIDATOR: Any = Draft202012Validator(SCHEMA)  # its stubs know no document of unknown shape


def test_the_schema_is_a_schema() -> None:
    of_schemas: Any = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    assert not list(of_schemas.iter_errors(SCHEMA))


@pytest.mark.parametrize("name", list_contracts("device-profiles"))
def test_a_profile_follows_the_schema_and_lies_under_its_own_name(name: str) -> None:
    document = json.loads(read_contract(name))
    assert not list(VALIDATOR.iter_errors(document))
    assert name == f"device-profiles/{document['profile']}.json"


@pytest.mark.parametrize(
    "measurand",
    [
        {"key": "1", "type": "boolean", "action": None, "feeds": []},
        {"key": "A", "type": "integer", "action": None, "feeds": []},
        {"key": "A", "type": "boolean", "unit": "kW", "action": None, "feeds": []},
        {"key": "A", "type": "boolean", "action": None},
        {"key": "A", "type": "boolean", "feeds": []},
        {"key": "A", "type": "boolean", "action": {"action": "DANCE"}, "feeds": []},
        {"key": "A", "type": "boolean", "action": {"action": "UPDATE_MICROGRID_STATE"}, "feeds": []},
        {"key": "A", "type": "boolean", "action": {"action": "RECORD_MEASUREMENT", "capability": "DER"}, "feeds": []},
        {"key": "A", "type": "boolean", "action": None, "feeds": ["HEATING"]},
        {"key": "A", "type": "boolean", "action": None, "feeds": ["DER", "DER"]},
        {"key": "A", "type": "boolean", "action": None, "feeds": [], "more": 1},
    ],
)
def test_the_schema_refuses_a_measurand_that_says_too_much_or_too_little(measurand: dict[str, object]) -> None:
    assert not VALIDATOR.is_valid({"profile": "p", "title": "t", "measurands": [measurand]})


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_agrees_with_the_catalogue_and_names_a_key_once(name: str) -> None:
    measurands = PROFILES[name].measurands
    assert len({measurand.key for measurand in measurands}) == len(measurands)
    for measurand in measurands:
        entry = CATALOGUE[measurand.key]
        assert measurand.type in entry.types
        assert measurand.unit == entry.unit


@pytest.mark.parametrize("name", PROFILES)
def test_what_an_action_feeds_is_among_what_its_measurand_can_feed(name: str) -> None:
    for measurand in PROFILES[name].measurands:
        if measurand.action is not None and measurand.action.capability is not None:
            assert measurand.action.capability in measurand.feeds


BY_DEFAULT = {
    "bba-microgrid-controller": {
        "AVAILABLE_CHARGING_CAPACITY": ("UPDATE_CIRCUIT_CAPACITY", None),
        "FAIL_SAFE_CAPACITY": ("RECORD_MEASUREMENT", None),
        "HEARTBEAT_STATUS": ("RECORD_MEASUREMENT", None),
        "DISPATCH_STATE": ("RECORD_MEASUREMENT", None),
        "LIMIT_DER_EXPORT": ("UPDATE_MICROGRID_STATE", "DER"),
        "SOC": ("RECORD_MEASUREMENT", None),
        "DEVICE_POWER_STATE": ("RECORD_MEASUREMENT", None),
        "BESS_OPERATIONAL_MODE": ("UPDATE_MICROGRID_STATE", "PEAK_SHAVING"),
        "PEAK_SHAVING": None,
        "DER": None,
    },
    "sitepwrmon": {"PEAK_SHAVING": ("UPDATE_MICROGRID_STATE", "PEAK_SHAVING"), "DER": ("UPDATE_MICROGRID_STATE", "DER")},
    "bess-meter": {
        "ACTIVE_POWER": ("UPDATE_POWER_SOURCE_LOAD", None),
        "DEVICE_POWER_STATE": ("UPDATE_POWER_SOURCE_STATE", None),
        "SOC": ("RECORD_MEASUREMENT", None),
        "IMPORT_ENERGY": ("RECORD_MEASUREMENT", None),
        "EXPORT_ENERGY": ("RECORD_MEASUREMENT", None),
    },
    "generic": {},
}


@pytest.mark.parametrize("name", BY_DEFAULT)
def test_the_measurands_of_a_profile_usually_do_this(name: str) -> None:
    found = {m.key: m.action and (m.action.action, m.action.capability) for m in PROFILES[name].measurands}
    assert found == BY_DEFAULT[name]


def test_every_profile_is_described_here() -> None:
    assert set(PROFILES) == set(BY_DEFAULT)
