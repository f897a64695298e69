"""Where the files that other programs rely on are read from: the checkout and the installed wheel alike."""

from __future__ import annotations

from importlib.resources import files

_ROOT = files("sensor_packet") / "contracts"


def read_contract(name: str) -> bytes:
    """Give the bytes of one contract file, named by its path below `contracts/`; FileNotFoundError where there is none."""
    return _ROOT.joinpath(*name.split("/")).read_bytes()


def list_contracts(folder: str) -> list[str]:
    """Give the files directly in a folder of `contracts/` ("" is the top), sorted, as names that `read_contract` takes."""
    place = _ROOT.joinpath(*folder.split("/")) if folder else _ROOT
    prefix = f"{folder}/" if folder else ""
    return sorted(prefix + entry.name for entry in place.iterdir() if entry.is_file())
