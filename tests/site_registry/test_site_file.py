"""Site files: which faults they have and where, and what reads back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid.site_model import ControlPoint, Depot, Device, Microgrid, SensorAction, Site
from site_registry.site_file import SiteDocument, export_site, parse_site
from site_registry.site_yaml import Unreadable, read_document, write_document

_EXAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "examples").glob("*.yaml"))


def _base() -> dict[str, Any]:
    return {
        "depot": {"depot_id": "d", "name": "D", "timezone": "UTC"},
        "circuits": [{"circuit_id": "c", "name": "C"}],
        "power_sources": [{"power_source_id": "s", "kind": "BATTERY", "name": "S"}],
        "gateways": [{"gateway_id": "g", "name": "G"}],
        "devices": [
            {"device_id": "v", "gateway_id": "g", "profile": "sitepwrmon"},
            {"device_id": "w", "gateway_id": "g"},
            {"device_id": "m", "gateway_id": "g", "profile": "bess-meter"},
        ],
    }


def _faults(given: Any) -> list[tuple[str, str]]:
    parsed = parse_site(given)
    assert isinstance(parsed, list)
    return [(fault.pointer, fault.code) for fault in parsed]


def _feeds(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"capability": capability, "measurand": measurand} for capability, measurand in pairs]


_WRONG: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"depot": {"depot_id": "a b", "name": "D", "timezone": "UTC"}}, [("/depot/depot_id", "INVALID_VALUE")]),
    ({"depot": {"depot_id": "a\n", "name": "D", "timezone": "UTC"}}, [("/depot/depot_id", "INVALID_VALUE")]),
    ({"depot": {"depot_id": "d", "name": "D", "timezone": "Perth"}}, [("/depot/timezone", "INVALID_VALUE")]),
    ({"depot": {"depot_id": "d", "name": "a\0", "timezone": "UTC"}}, [("/depot/name", "INVALID_VALUE")]),
    ({"depot": {"depot_id": "d", "name": "\ud800", "timezone": "UTC"}}, [("/depot/name", "INVALID_VALUE")]),
    ({"depot": {"name": "D"}}, [("/depot/depot_id", "MISSING_FIELD"), ("/depot/timezone", "MISSING_FIELD")]),
    ({"circuit": []}, [("/circuit", "UNKNOWN_FIELD")]),
    ({"circuits": {}}, [("/circuits", "INVALID_VALUE")]),
    ({"circuits": [{"circuit_id": "c", "name": "C", "a/b~c": 1}]}, [("/circuits/0/a~1b~0c", "UNKNOWN_FIELD")]),
    ({"circuits": [{"circuit_id": "c", "name": "C", "rating_kw": -1}]}, [("/circuits/0/rating_kw", "INVALID_VALUE")]),
    ({"circuits": [{"circuit_id": "c", "name": "C", "rating_kw": float("nan")}]}, [("/circuits/0/rating_kw", "INVALID_VALUE")]),
    ({"circuits": [{"circuit_id": "c", "name": "C", "rating_kw": float("inf")}]}, [("/circuits/0/rating_kw", "INVALID_VALUE")]),
    ({"circuits": [{"circuit_id": "c", "name": "C", "rating_kw": True}]}, [("/circuits/0/rating_kw", "INVALID_VALUE")]),
    ({"circuits": [{"circuit_id": "c", "name": "C", "rating_kw": 10**400}]}, [("/circuits/0/rating_kw", "INVALID_VALUE")]),
    ({"circuits": [{"circuit_id": "c", "name": "C", "position": 1.5}]}, [("/circuits/0/position", "INVALID_VALUE")]),
    (
        {"circuits": [{"circuit_id": "c", "name": "C"}, {"circuit_id": "c", "name": "C"}]},
        [("/circuits/1/circuit_id", "ALREADY_EXISTS")],
    ),
    (
        {"circuits": [{"circuit_id": "c", "name": "C", "parent_circuit_id": "z"}]},
        [("/circuits/0/parent_circuit_id", "CIRCUIT_NOT_FOUND")],
    ),
    (
        {"circuits": [{"circuit_id": "c", "name": "C", "parent_circuit_id": "c"}]},
        [("/circuits/0/parent_circuit_id", "CIRCUIT_CYCLE")],
    ),
    (
        {
            "circuits": [
                {"circuit_id": "c", "name": "C", "parent_circuit_id": "e"},
                {"circuit_id": "e", "name": "E", "parent_circuit_id": "c"},
                {"circuit_id": "f", "name": "F", "parent_circuit_id": "e"},
            ]
        },
        [("/circuits/0/parent_circuit_id", "CIRCUIT_CYCLE"), ("/circuits/1/parent_circuit_id", "CIRCUIT_CYCLE")],
    ),
    (
        {"charge_points": [{"charge_point_id": "p", "circuit_id": "z", "name": "P", "max_kw": 1}]},
        [("/charge_points/0/circuit_id", "CIRCUIT_NOT_FOUND")],
    ),
    (
        {"connectors": [{"connector_id": "k", "charge_point_id": "z", "number": 1}]},
        [("/connectors/0/charge_point_id", "CHARGE_POINT_NOT_FOUND")],
    ),
    ({"devices": [{"device_id": "v", "gateway_id": "z"}]}, [("/devices/0/gateway_id", "GATEWAY_NOT_FOUND")]),
    ({"devices": [{"device_id": "v", "gateway_id": "g", "profile": "z"}]}, [("/devices/0/profile", "UNKNOWN_PROFILE")]),
    (
        {"gateways": [{"gateway_id": "g", "name": "G", "model_outputs": {"k": "UPDATE_POWER_SOURCE_LOAD"}}]},
        [("/gateways/0/model_outputs", "MODEL_OUTPUT_WITHOUT_MODEL")],
    ),
    (
        {
            "gateways": [
                {"gateway_id": "g", "name": "G", "site_model_name": "M", "model_outputs": {"k": "RECORD_MEASUREMENT"}},
            ]
        },
        [("/gateways/0/model_outputs/k", "INVALID_VALUE")],
    ),
    (
        {"gateways": [{"gateway_id": "g", "name": "G", "output_translation": {"k": "z", "bad key": "s"}}]},
        [("/gateways/0/output_translation", "INVALID_VALUE"), ("/gateways/0/output_translation/k", "INVALID_POWER_SOURCE")],
    ),
    (
        {"sensor_actions": [{"device_id": "z", "measurand": "SOC", "action": "RECORD_MEASUREMENT"}]},
        [("/sensor_actions/0/device_id", "UNKNOWN_DEVICE")],
    ),
    (
        {"sensor_actions": [{"device_id": "w", "measurand": "SOC", "action": "UPDATE_POWER_SOURCE_LOAD", "power_source_id": "z"}]},
        [("/sensor_actions/0/power_source_id", "INVALID_POWER_SOURCE")],
    ),
    (
        {"sensor_actions": [{"device_id": "w", "measurand": "SOC", "action": "RECORD_MEASUREMENT"}] * 2},
        [("/sensor_actions/1", "ALREADY_EXISTS")],
    ),
    (
        {"sensor_actions": [{"device_id": "w", "measurand": "DER", "action": "UPDATE_MICROGRID_STATE"}]},
        [("/sensor_actions/0/capability", "INVALID_VALUE")],
    ),
    (
        {"sensor_actions": [{"device_id": "w", "measurand": "DER", "action": "RECORD_MEASUREMENT", "capability": "DER"}]},
        [("/sensor_actions/0/capability", "INVALID_VALUE")],
    ),
    (
        {
            "sensor_actions": [
                {"device_id": "w", "measurand": name, "action": "UPDATE_MICROGRID_STATE", "capability": "DER"}
                for name in ("A", "B")
            ]
        },
        [("/sensor_actions/1/measurand", "INVALID_VALUE")],
    ),
    ({"controller_bindings": [{"device_id": "w", "capabilities": []}]}, [("/controller_bindings/0/capabilities", "EMPTY_BINDING")]),
    (
        {"controller_bindings": [{"device_id": "z", "capabilities": _feeds(("DER", "DER"))}]},
        [("/controller_bindings/0/device_id", "UNKNOWN_DEVICE")],
    ),
    (
        {"controller_bindings": [{"device_id": "w", "capabilities": _feeds(("NO", "DER"))}]},
        [("/controller_bindings/0/capabilities/0/capability", "UNSUPPORTED_CAPABILITY")],
    ),
    (
        {"controller_bindings": [{"device_id": "m", "capabilities": _feeds(("DER", "DER"))}]},
        [("/controller_bindings/0/capabilities/0/capability", "UNSUPPORTED_CAPABILITY")],
    ),
    (
        {"controller_bindings": [{"device_id": "v", "capabilities": _feeds(("DER", "LIMIT_DER_EXPORT"))}]},
        [("/controller_bindings/0/capabilities/0/measurand", "MEASURAND_NOT_SUPPORTED")],
    ),
    (
        {"controller_bindings": [{"device_id": "w", "capabilities": _feeds(("DER", "SOC"))}]},
        [("/controller_bindings/0/capabilities/0/measurand", "MEASURAND_NOT_SUPPORTED")],
    ),
    (
        {"controller_bindings": [{"device_id": "w", "capabilities": _feeds(("DER", "DER"), ("DER", "A"))}]},
        [("/controller_bindings/0/capabilities/1", "ALREADY_EXISTS")],
    ),
    (
        {"controller_bindings": [{"device_id": one, "capabilities": _feeds(("DER", "DER"))} for one in ("v", "w")]},
        [("/controller_bindings/1/capabilities/0", "CAPABILITY_SOURCE_CONFLICT")],
    ),
    (
        {
            "sensor_actions": [{"device_id": "w", "measurand": "A", "action": "UPDATE_MICROGRID_STATE", "capability": "DER"}],
            "controller_bindings": [{"device_id": "w", "capabilities": _feeds(("DER", "B"))}],
        },
        [("/controller_bindings/0/capabilities/0/measurand", "INVALID_VALUE")],
    ),
    *(
        (
            {"controller_bindings": [{"device_id": "w", "stale_after_s": stale, "capabilities": _feeds(("DER", "DER"))}]},
            [("/controller_bindings/0/stale_after_s", "INVALID_STALE_AFTER")],
        )
        for stale in (0, 0.5, 86_400.5, -1, "120", None, True)
    ),
]


@pytest.mark.parametrize(("change", "expected"), _WRONG, ids=[expected[0][1] + expected[0][0] for _, expected in _WRONG])
def test_a_fault_is_named_by_its_place_and_code(change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert _faults({**_base(), **change}) == expected


def test_all_faults_are_told_at_once_in_the_order_of_the_document() -> None:
    document = {
        **_base(),
        "circuits": [{"circuit_id": "c", "name": "C", "rating_kw": -1, "kw": 1}],
        "devices": [{"device_id": "v", "gateway_id": "z"}] * 11,
    }
    found = _faults(document)
    assert found[:4] == [
        ("/circuits/0/kw", "UNKNOWN_FIELD"),
        ("/circuits/0/rating_kw", "INVALID_VALUE"),
        ("/devices/0/gateway_id", "GATEWAY_NOT_FOUND"),
        ("/devices/1/device_id", "ALREADY_EXISTS"),
    ]
    assert found[-1] == ("/devices/10/gateway_id", "GATEWAY_NOT_FOUND")


@pytest.mark.parametrize("stale", [1, 86_400])
def test_the_ends_of_the_range_of_stale_after_belong_to_it(stale: int) -> None:
    bindings = [{"device_id": "w", "stale_after_s": stale, "capabilities": _feeds(("DER", "DER"))}]
    assert isinstance(parse_site({**_base(), "controller_bindings": bindings}), SiteDocument)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("depot: {\n  a: [1, 2\n", "line 3, column 1"),
        ("depot: {}\ndepot: {}", "line 2, column 1"),
        ("a:\n\t- b", "line 2, column 1"),
    ],
)
def test_what_is_not_yaml_is_named_by_line_and_column(text: str, place: str) -> None:
    parsed = parse_site(text)
    assert isinstance(parsed, list)
    assert [(fault.pointer, fault.code) for fault in parsed] == [("", "MALFORMED_YAML")]
    assert place in parsed[0].detail


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "text"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert _faults(text) == [("", "INVALID_VALUE")]


def test_bytes_that_are_no_utf8_are_refused() -> None:
    assert _faults(b"\xff") == [("", "MALFORMED_YAML")]


@pytest.mark.parametrize(
    ("text", "value"),
    [("no", "no"), ("010", "010"), ("12:30", "12:30"), ("2024-01-01", "2024-01-01"), ("true", True), ("1e3", 1000.0), ("~", None)],
)
def test_yaml_knows_only_what_json_knows(text: str, value: object) -> None:
    assert read_document(f"a: {text}") == {"a": value}


@pytest.mark.parametrize("text", ["&a [*a]", "[" * 5000, '{"a": 1, "a": 2}', "{a: 1, a: 2}", "1: 2", "a: !!python/name:os.system"])
def test_what_could_not_be_a_site_is_told_and_not_raised(text: str) -> None:
    assert isinstance(read_document(text), Unreadable)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _json, max_size=3))
def test_what_is_written_as_yaml_reads_back(document: dict[str, Any]) -> None:
    assert read_document(write_document(document)) == document


@given(st.dictionaries(st.text(), _json, max_size=3))
def test_any_document_is_refused_or_read_but_never_raises(document: dict[str, Any]) -> None:
    assert isinstance(parse_site(document), list)
    assert isinstance(parse_site(json.dumps(document)), list)


@pytest.mark.parametrize("path", _EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_site(path: Path) -> None:
    assert isinstance(parse_site(path.read_bytes()), SiteDocument)


def test_fields_left_out_get_their_defaults() -> None:
    bindings = [{"device_id": "w", "capabilities": _feeds(("DER", "DER"))}]
    parsed = parse_site({**_base(), "controller_bindings": bindings})
    assert isinstance(parsed, SiteDocument)
    assert parsed.devices[0].enabled
    assert (parsed.circuits[0].position, parsed.circuits[0].rating_kw) == (0, None)
    assert (parsed.controller_bindings[0].enabled, parsed.controller_bindings[0].stale_after_s) == (True, None)


def test_export_leaves_out_what_the_profile_gives_and_what_a_binding_brings_along() -> None:
    site = Site(
        depot=Depot("d", "D", "UTC"),
        devices=(Device("v", "g", None, "sitepwrmon", enabled=True),),
        sensor_actions=(
            SensorAction("1", "v", "PEAK_SHAVING", "UPDATE_MICROGRID_STATE", capability="PEAK_SHAVING", origin="PROFILE"),
            SensorAction("2", "v", "DER", "UPDATE_MICROGRID_STATE", capability="DER", enabled=False, origin="PROFILE"),
            SensorAction("3", "v", "SOC", "RECORD_MEASUREMENT", scale=2.0),
        ),
        microgrid=Microgrid(
            "m", 1, "ACTIVE", (), (ControlPoint("p", None, "PEAK_SHAVING", "v", "PEAK_SHAVING", 300.0, enabled=True),)
        ),
    )
    written = export_site(site)
    assert written["sensor_actions"] == [
        {"device_id": "v", "measurand": "DER", "action": "UPDATE_MICROGRID_STATE", "enabled": False, "capability": "DER"},
        {"device_id": "v", "measurand": "SOC", "action": "RECORD_MEASUREMENT", "scale": 2},
    ]
    assert written["controller_bindings"] == [
        {"device_id": "v", "enabled": True, "stale_after_s": 300, "capabilities": _feeds(("PEAK_SHAVING", "PEAK_SHAVING"))}
    ]
