"""A running Depotgrid, and what a QA engineer does with it: load depots, run scenarios, read evidence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from depot_sim.evidence import Run, find_run
from depot_sim.presets import preset_site
from site_registry.site_yaml import Unreadable, read_document

PATIENCE_S = 120.0


def unhurried_site(name: str) -> str:
    """The site of a preset, where a controller must be silent for longer before it counts as lost.

    A simulator on a busy machine falls silent for moments, too.
    """
    return preset_site(name).replace("heartbeat_timeout_s: 3}", "heartbeat_timeout_s: 7}")


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its status, what it said, and its run, where one began."""

    status: int
    said: str
    run: Run | None


@dataclass(frozen=True)
class ProductStack:
    """Where the product is; commands find it by the data folder."""

    folder: Path
    port: int
    mqtt_port: int
    kafka: str

    @property
    def data_dir(self) -> Path:
        """The folder of its state and of the runs."""
        return self.folder / "data"

    @property
    def url(self) -> str:
        """Both APIs."""
        return f"http://127.0.0.1:{self.port}"

    def load(self, site: str) -> None:
        """Make a depot be what a site file says."""
        document = read_document(site)
        assert not isinstance(document, Unreadable)
        depot_id = document["depot"]["depot_id"]  # type: ignore[index]  # pyright: ignore
        answer = httpx2.put(f"{self.url}/api/depot/{depot_id}/site", json=document, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin `depotgrid sim …` against it."""
        return subprocess.Popen(
            [sys.executable, "-m", "operator_cli", "sim", *arguments, "--data-dir", str(self.data_dir)],
            env=self._environment(),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Finished:
        """Wait for a command's end."""
        said, _ = process.communicate(timeout=4 * PATIENCE_S)
        found = re.search(r"^(\S+): (?:PASSED|FAILED|ABORTED|INTERRUPTED) ", said, re.MULTILINE)
        return Finished(process.returncode, said, find_run(self.data_dir / "runs", found[1]) if found else None)

    def sim(self, *arguments: str) -> Finished:
        """Run `depotgrid sim …` to its end."""
        return self.finish(self.start(*arguments))

    @staticmethod
    def _environment() -> Mapping[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("DEPOTGRID_")}
