"""The battery-mode table as a file for other programs: complete, without overlaps and of one mind with the package."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from sensor_packet.battery_mode import CONTRACT, MODES, battery_mode, capability_from_mode
from sensor_packet.catalogue import DISPATCH_STATES, POWER_STATES
from sensor_packet.contract_files import read_contract

TABLE: dict[str, Any] = json.loads(read_contract(CONTRACT))
INPUTS: dict[str, list[Any]] = TABLE["inputs"]
NAMES = ["power_state", "dispatch_state", "peak_shaving", "der"]


def matching_rows(*values: object) -> list[dict[str, Any]]:
    """Read the file as its own description says, without the package's help."""
    known = [*values[:2], *(value is True for value in values[2:])]

    def fits(row: dict[str, Any], name: str, value: object) -> bool:
        if name not in row:
            return True
        return value in row[name] if isinstance(row[name], list) else value is row[name]

    return [row for row in TABLE["rows"] if all(fits(row, name, value) for name, value in zip(NAMES, known, strict=True))]


@pytest.mark.parametrize("values", list(product(*(INPUTS[name] for name in NAMES))))
def test_exactly_one_row_matches_and_it_is_what_the_package_answers(values: tuple[Any, ...]) -> None:
    (row,) = matching_rows(*values)
    found = battery_mode(*values)
    assert (found.row, found.mode) == (row["row"], row["mode"])
    assert found.anomaly == (values[1] not in row.get("anomaly_unless_dispatch_state", INPUTS["dispatch_state"]))


def test_the_rows_are_numbered_in_their_order() -> None:
    assert [row["row"] for row in TABLE["rows"]] == list(range(1, 16))


def test_the_modes_are_those_of_the_rows_and_of_the_way_back() -> None:
    assert {row["mode"] for row in TABLE["rows"]} == set(TABLE["modes"]) == set(TABLE["capabilities"]) == set(MODES)
    assert len(set(MODES)) == len(MODES)


def test_every_capability_of_every_mode_is_what_the_package_answers() -> None:
    for mode, capabilities in TABLE["capabilities"].items():
        assert list(capabilities) == ["PEAK_SHAVING", "DER"]
        for capability, value in capabilities.items():
            assert capability_from_mode(mode, capability) is value


def test_the_inputs_are_the_catalogue_s_states_and_unknown() -> None:
    assert set(INPUTS["power_state"]) == {None, *POWER_STATES}
    assert set(INPUTS["dispatch_state"]) == {None, *DISPATCH_STATES}
