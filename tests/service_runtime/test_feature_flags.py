"""Feature flags: the depot's value, then the file's, then the built-in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from service_runtime.feature_flags import LOAD_CHART_FLAG, FeatureFlags, load_flags
from service_runtime.settings import SettingsFault


def _flags(tmp_path: Path, text: str) -> FeatureFlags | SettingsFault:
    file = tmp_path / "flags.yaml"
    file.write_text(text)
    return load_flags(file)


def test_without_a_file_the_load_chart_is_on() -> None:
    flags = load_flags(None)
    assert isinstance(flags, FeatureFlags)
    assert flags.flag(LOAD_CHART_FLAG, "depot-1") is True


@pytest.mark.parametrize(
    ("text", "depot_1", "depot_2"),
    [
        ("", True, True),
        (f"{LOAD_CHART_FLAG}: false", False, False),
        (f"{LOAD_CHART_FLAG}: {{default: false, depots: {{depot-1: true}}}}", True, False),
        (f"{LOAD_CHART_FLAG}: {{depots: {{depot-1: false}}}}", False, True),
        (f'{{"{LOAD_CHART_FLAG}": {{"default": true, "depots": {{"depot-2": false}}}}}}', True, False),
    ],
)
def test_a_depots_own_value_wins_over_the_files_default(tmp_path: Path, text: str, depot_1: bool, depot_2: bool) -> None:
    flags = _flags(tmp_path, text)
    assert isinstance(flags, FeatureFlags)
    assert (flags.flag(LOAD_CHART_FLAG, "depot-1"), flags.flag(LOAD_CHART_FLAG, "depot-2")) == (depot_1, depot_2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "neither YAML nor JSON"),
        ("- x", "is not a mapping of flags"),
        ("new-microgrid-field-load-chart: true", "no flag is named 'new-microgrid-field-load-chart'"),
        (f"{LOAD_CHART_FLAG}: maybe", "neither true nor false"),
        (f"{LOAD_CHART_FLAG}: {{defualt: true}}", "unknown member 'defualt'"),
        (f"{LOAD_CHART_FLAG}: {{default: 1}}", "default is true or false"),
        (f"{LOAD_CHART_FLAG}: {{depots: {{depot-1: 'no'}}}}", "for depot depot-1 is neither true nor false"),
    ],
)
def test_a_file_that_cannot_be_understood_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    fault = _flags(tmp_path, text)
    assert isinstance(fault, SettingsFault)
    assert told in fault.line()
    assert fault.variable == "DEPOTGRID_FEATURE_FLAGS_FILE"
    assert "\n" not in fault.line()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    fault = load_flags(tmp_path / "none.yaml")
    assert isinstance(fault, SettingsFault)
    assert "none.yaml cannot be read: No such file" in fault.line()


def test_two_sets_of_flags_do_not_mix(tmp_path: Path) -> None:
    off, on = _flags(tmp_path, f"{LOAD_CHART_FLAG}: false"), load_flags(None)
    assert isinstance(off, FeatureFlags)
    assert isinstance(on, FeatureFlags)
    assert (off.flag(LOAD_CHART_FLAG, "d"), on.flag(LOAD_CHART_FLAG, "d")) == (False, True)
