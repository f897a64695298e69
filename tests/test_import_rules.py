"""What import-linter cannot say: that its lists are complete, and that the balancer needs nothing but the standard library."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_SETTINGS: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]


def _packages(folder: str) -> set[str]:
    return {found.parent.name for found in (_ROOT / folder).glob("*/__init__.py")}


def _imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_every_package_stands_under_the_import_rules() -> None:
    assert set(_SETTINGS["importlinter"]["root_packages"]) == _packages("libs") | _packages("services")


def test_every_service_stands_in_the_layer_of_services() -> None:
    top: str = _SETTINGS["importlinter"]["contracts"][0]["layers"][0]
    assert set(top.split(" | ")) == _packages("services")


def test_every_package_is_part_of_the_distribution() -> None:
    shipped = {Path(package).name for package in _SETTINGS["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert shipped == _packages("libs") | _packages("services")


def test_the_balancer_needs_only_the_standard_library() -> None:
    used = set[str]().union(*(_imports(file) for file in (_ROOT / "libs" / "load_balancer").rglob("*.py")))
    assert used - sys.stdlib_module_names <= {"load_balancer"}
