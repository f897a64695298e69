"""`depotgrid site`: load a depot from a file, and write it back as one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import uuid_utils
from cyclopts import App, Parameter

from operator_cli.output import complain, say, show_json, show_table
from operator_cli.places import DEFAULT_DATA_DIR, AsJson, CommandFault, DatabaseUrl, DataDir, find_database
from site_operations.import_site import SiteReport
from site_operations.site_transfer import export_from, import_into
from site_registry.site_file import SiteFault, parse_site
from site_registry.site_yaml import write_document

app = App(name="site", help="Load a depot from a file, and write it back.")
_STATES = ("created", "changed", "left", "removed")


@app.command(name="import")
def import_file(
    file: Annotated[Path, Parameter(help="YAML or JSON; - reads standard input", allow_leading_hyphen=True)],
    *,
    provision: Annotated[
        bool,
        Parameter(
            negative="--no-provision", help="make the microgrid and its bindings, else leave the depot as an old system would"
        ),
    ] = True,
    prune: Annotated[bool, Parameter(negative="", help="also delete what the file leaves out")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> int:
    """Load a depot from a site file: all of it or nothing, and nothing twice."""
    document = parse_site(_read(file))
    if isinstance(document, list):
        return _refused(file, document, as_json=as_json)
    url = find_database(database_url, data_dir)
    outcome = asyncio.run(import_into(url, document, provision=provision, prune=prune, now=now(), new_id=new_id))
    if isinstance(outcome, list):
        return _refused(file, outcome, as_json=as_json)
    if as_json:
        show_json(asdict(outcome))
    else:
        _show_report(outcome)
    return 0


@app.command
def export(
    depot: Annotated[str, Parameter(help="the depot's id")],
    *,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> int:
    """Write a depot as a site file to standard output."""
    document = asyncio.run(export_from(find_database(database_url, data_dir), depot))
    if document is None:
        raise CommandFault(f"no depot is called {depot!r}")
    if as_json:
        show_json(document)
    else:
        print(write_document(document), end="")
    return 0


def _read(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as fault:
        raise CommandFault(f"{file}: {fault.strerror or fault}; give the path of a site file") from fault


def _refused(file: Path, faults: Sequence[SiteFault], *, as_json: bool) -> int:
    if as_json:
        show_json({"errors": [asdict(fault) for fault in faults]})
        return 1
    show_table(
        ("place", "code", "what is wrong"), [(f"{file}:{fault.pointer}", fault.code, fault.detail) for fault in faults], error=True
    )
    complain(f"{file}: {len(faults)} fault{'s' if len(faults) > 1 else ''}, nothing was stored")
    return 1


def _show_report(report: SiteReport) -> None:
    states: list[dict[str, list[str]]] = [getattr(report, state) for state in _STATES]
    kinds = dict.fromkeys(kind for state in states for kind in state)
    show_table(("kind", *_STATES), [(kind, *(len(state.get(kind, [])) for state in states)) for kind in kinds])
    for note in report.notes:
        say(f"note: {note}")
    microgrid = f"microgrid {report.microgrid_id}" if report.microgrid_id else "no microgrid"
    say(f"depot {report.depot_id}: {microgrid}")


def new_id() -> str:
    """A UUID of our own (version 7)."""
    return str(uuid_utils.uuid7())


def now() -> datetime:
    """The clock of this process."""
    return datetime.now(UTC)  # noqa: TID251 - the command owns its clock
