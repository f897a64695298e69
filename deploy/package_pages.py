"""Put the built web pages into the package: a step of hatchling, for wheels and for what is sent as source.

Pages that are not built are left out with a warning: the package works without them, and `depotgrid up` says so where they would
be. A checkout that is installed in place (`pip install -e`) finds its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILT = Path("services/web/dist")
IN_PACKAGE = Path("operator_cli/built_pages")


class PackagePages(BuildHookInterface[Any]):
    """Called by hatchling for each thing that it builds."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files of the pages to what is packed."""
        if version == "editable":
            return
        built = Path(self.root) / BUILT
        if not (built / "index.html").is_file():
            self.app.display_warning(f"the web pages are not built ({BUILT}), and the package is without them")
            return
        where = IN_PACKAGE if self.target_name == "wheel" else BUILT
        for path in sorted(built.rglob("*")):
            inside = path.relative_to(built)
            if path.is_file() and not any(part.startswith(".") for part in inside.parts):
                build_data["force_include"][str(path)] = (where / inside).as_posix()
