"""The scenarios that travel with the product, and the depots that they are told of."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

_ROOT = files("depot_sim") / "scenarios"


def preset_names() -> list[str]:
    """The names of all presets, in alphabetical order."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _ROOT.iterdir() if entry.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """A preset's YAML; FileNotFoundError where there is none of that name."""
    return _ROOT.joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def preset_site(name: str) -> str:
    """The site file of a preset's depot; FileNotFoundError where there is none."""
    return _ROOT.joinpath("sites", f"{name}.yaml").read_text(encoding="utf-8")


def scenario_text(named: str) -> tuple[str, str]:
    """The name to show and the text of a scenario given as a preset's name or a file's path; OSError where it can not be read."""
    if named in preset_names():
        return named, preset_text(named)
    return named, Path(named).read_text(encoding="utf-8")
