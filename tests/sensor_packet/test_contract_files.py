"""Contract files are found from the package that reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensor_packet.contract_files import list_contracts, read_contract

CONTRACTS = Path(__file__).parents[2] / "contracts"


def test_a_contract_is_read_as_it_lies_in_the_checkout() -> None:
    assert read_contract("packet.schema.json") == (CONTRACTS / "packet.schema.json").read_bytes()
    assert read_contract("device-profiles/generic.json") == (CONTRACTS / "device-profiles" / "generic.json").read_bytes()


def test_a_folder_lists_its_files_sorted_under_the_names_by_which_they_are_read() -> None:
    names = list_contracts("device-profiles")
    assert names == sorted(f"device-profiles/{path.name}" for path in (CONTRACTS / "device-profiles").iterdir())
    assert all(read_contract(name) for name in names)


def test_the_top_folder_lists_files_but_no_folders() -> None:
    assert "packet.schema.json" in list_contracts("")
    assert "packets" not in list_contracts("")


def test_a_contract_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        read_contract("nothing.json")
    with pytest.raises(FileNotFoundError):
        list_contracts("nothing")
