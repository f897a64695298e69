"""The package that `pip install` makes of a checkout: it runs everything by itself, pages and migrations included."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import httpx2
import pytest

from operator_cli.embedded_process import free_port

_ROOT = Path(__file__).parents[2]
_PATIENCE_S = 240.0
# What a build needs of a checkout; the pages are put there by the test.
_SOURCES = ("pyproject.toml", "README.md", "libs", "services", "deploy", "contracts")


def _checkout(folder: Path, *, pages: bool) -> Path:
    """A copy of what a package is built from, with pages or without."""
    folder.mkdir()
    for name in _SOURCES:
        source = _ROOT / name
        if source.is_dir():
            left_out = shutil.ignore_patterns("node_modules", "dist", "__pycache__")
            shutil.copytree(source, folder / name, symlinks=True, ignore=left_out)
        else:
            shutil.copy(source, folder / name)
    if pages:
        assets = folder / "services" / "web" / "dist" / "assets"
        assets.mkdir(parents=True)
        (assets / "index-abc123.js").write_text("one")
        (assets.parent / "index.html").write_text("<title>Depotgrid</title>")
        (assets.parent / ".built").write_text("stamp")
    return folder


def _packed(checkout: Path, kind: str) -> Path:
    out = checkout.parent / f"{checkout.name}-{kind}"
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)], cwd=checkout, check=True, timeout=_PATIENCE_S
    )
    (package,) = out.iterdir()
    return package


def _unpacked(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as package:
        package.extractall(folder)
    return folder


def _environment(package: Path) -> dict[str, str]:
    """The unpacked package before anything else, so that what it lacks is not taken from the checkout's modules in its place."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DEPOTGRID_")}
    return {**kept, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _checkout(tmp_path_factory.mktemp("package") / "checkout", pages=True)


@pytest.mark.services
def test_a_package_runs_everything_by_itself(checkout: Path, tmp_path: Path, service_folder: Path) -> None:
    package = _unpacked(_packed(checkout, "wheel"), tmp_path / "site-packages")
    environment = _environment(package)
    where = [sys.executable, "-c", "import operator_cli, site_operations; print(operator_cli.__file__, site_operations.__file__)"]
    found = subprocess.run(where, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True, timeout=_PATIENCE_S)
    assert found.stdout.count(str(package)) == 2
    port = free_port()
    command = [sys.executable, "-m", "operator_cli", "up", "--data-dir", str(service_folder / "data"), "--port", str(port)]
    with (service_folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--mqtt-port", str(free_port()), "--demo"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("depotgrid is up"), (service_folder / "log").read_text()
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            assert http.get("/depot/demo-depot").text == "<title>Depotgrid</title>"
            assert http.get("/assets/index-abc123.js").text == "one"
            assert http.get("/api/depot/demo-depot/microgrid/card").json()["depot_id"] == "demo-depot"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(_PATIENCE_S) == 0
        if process.stdout is not None:
            process.stdout.close()


def test_a_package_made_of_sent_source_is_the_same(checkout: Path, tmp_path: Path) -> None:
    with tarfile.open(_packed(checkout, "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    ours, theirs = (zipfile.ZipFile(_packed(one, "wheel")).namelist() for one in (checkout, source))
    assert sorted(theirs) == sorted(ours)
    assert "operator_cli/built_pages/index.html" in ours
    assert not [name for name in ours if "/." in name or "node_modules" in name]


def test_a_package_without_pages_says_so_where_they_would_be(tmp_path: Path) -> None:
    package = _unpacked(_packed(_checkout(tmp_path / "checkout", pages=False), "wheel"), tmp_path / "site-packages")
    command = [sys.executable, "-m", "operator_cli", "pages", str(tmp_path / "site")]
    environment = {**_environment(package), "DEPOTGRID_AUTH": "off"}
    said = subprocess.run(
        command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=_PATIENCE_S, check=False
    )
    assert said.returncode == 1
    assert "the web pages are not built" in said.stderr
