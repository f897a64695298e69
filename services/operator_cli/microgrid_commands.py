"""`depotgrid microgrid`: provision the depots that lack their microgrid, and repair one that drifted from its circuits."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Annotated

import uvloop
from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from event_store.database import UNREACHABLE, DatabaseFault, Pool, address, open_pool
from operator_cli.output import complain, say, show_json, show_table
from operator_cli.places import DEFAULT_DATA_DIR, AsJson, CommandFault, DatabaseUrl, DataDir, find_database
from operator_cli.site_commands import new_id, now
from site_operations.backfill import AT_ONCE, OUTCOMES, BackfillSummary, Progress
from site_operations.backfill import backfill as run_backfill
from site_operations.provision_microgrid import DepotNotFound
from site_operations.resync_microgrid import MicrogridNotFound, Resynced, resync_microgrid

app = App(name="microgrid", help="Provision what lacks its microgrid, and repair drift.")
DryRun = Annotated[bool, Parameter(name="--dry-run", negative="", help="only tell what would change")]
_LISTED = 20
_MEANING: dict[str, str] = dict(
    zip(
        OUTCOMES,
        (
            "get their microgrid",
            "have one already",
            "have no circuit without a parent and with a name",
            "were deleted meanwhile",
            "failed",
        ),
        strict=True,
    )
)


@app.command
def backfill(
    *,
    dry_run: DryRun = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> int:
    """Provision every depot that has a top-level circuit and no microgrid; run it again after whatever stopped it."""
    summary = uvloop.run(_backfill(find_database(database_url, data_dir), dry_run=dry_run))
    if as_json:
        show_json(asdict(summary))
    else:
        _show_summary(summary)
    return 1 if summary.failed else 0


@app.command
def resync(
    depot: Annotated[str, Parameter(help="the depot's id")],
    *,
    dry_run: DryRun = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> int:
    """Make a depot's microgrid equal to its circuits again, and tell the difference."""
    found = uvloop.run(_resync(find_database(database_url, data_dir), depot, dry_run=dry_run))
    if isinstance(found, DepotNotFound):
        raise CommandFault(f"no depot is called {depot!r}")
    if isinstance(found, MicrogridNotFound):
        raise CommandFault(
            f"depot {depot} has no microgrid: a named circuit without a parent and `depotgrid microgrid backfill` make it"
        )
    if as_json:
        show_json(_as_document(depot, found, dry_run=dry_run))
    else:
        _show_difference(depot, found, dry_run=dry_run)
    return 0


async def _backfill(url: str, *, dry_run: bool) -> BackfillSummary:
    async with _pool(url, AT_ONCE) as pool:
        with _progress() as progress:
            return await run_backfill(pool, dry_run=dry_run, now=now(), new_id=new_id, progress=progress)


async def _resync(url: str, depot_id: str, *, dry_run: bool) -> Resynced | MicrogridNotFound | DepotNotFound:
    async with _pool(url, 1) as pool:
        return await resync_microgrid(pool, depot_id, dry_run=dry_run, now=now(), new_id=new_id)


@asynccontextmanager
async def _pool(url: str, connections: int) -> AsyncGenerator[Pool]:
    pool = await open_pool(url, "depotgrid-microgrid", max_size=connections)
    try:
        yield pool
    except UNREACHABLE as fault:
        reason = str(fault) or type(fault).__name__
        raise DatabaseFault(
            f"the database at {address(url)} went away: {reason}; what is done stays done, run the same again to go on"
        ) from fault
    finally:
        # Connections in the middle of something are no longer wanted.
        pool.terminate()


@contextmanager
def _progress() -> Generator[Callable[[Progress], None]]:
    columns = (TextColumn("depots"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("depots", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=max(progress.done, progress.total))

        yield show


def _show_summary(summary: BackfillSummary) -> None:
    rows = [(outcome, count, _MEANING[outcome]) for outcome, count in summary.outcomes.items()]
    show_table(("outcome", "depots", "meaning"), rows)
    _show_some("without a circuit to provision from", summary.without_circuit)
    for failure in summary.failures[:_LISTED]:
        complain(f"depot {failure.depot_id}: {failure.reason}")
    if len(summary.failures) > _LISTED:
        complain(f"… and {len(summary.failures) - _LISTED} more; --json names all of them")
    if summary.dry_run:
        say("a trial: nothing was stored")


def _show_some(what: str, depot_ids: tuple[str, ...]) -> None:
    if depot_ids:
        more = f" and {len(depot_ids) - _LISTED} more, --json names all of them" if len(depot_ids) > _LISTED else ""
        say(f"{what}: {', '.join(depot_ids[:_LISTED])}{more}")


def _as_document(depot_id: str, found: Resynced, *, dry_run: bool) -> dict[str, object]:
    """The difference as the command API tells it."""
    told = asdict(found)
    microgrid = told.pop("microgrid")
    standing = {name: microgrid[name] for name in ("microgrid_id", "version", "status")}
    return {**standing, "depot_id": depot_id, "dry_run": dry_run, **told}


def _show_difference(depot_id: str, found: Resynced, *, dry_run: bool) -> None:
    rows = [
        *(("added", node.source_circuit_id, node.name, "") for node in found.added),
        *(("removed", node.source_circuit_id, node.name, "") for node in found.removed),
        *(("renamed", node.source_circuit_id, node.name, f"was {node.old_name}") for node in found.renamed),
        *(("reordered", node.source_circuit_id, node.name, f"position {node.position}") for node in found.reordered),
        *(("corrected", "", what, "") for what in found.corrected),
        *(("unbound", point.device_id, point.capability, f"node {point.node_id}") for point in found.unbound),
    ]
    if rows:
        show_table(("change", "of", "name", "detail"), rows)
    told = "nothing to change" if not found.changed else "would change, nothing was stored" if dry_run else "changed"
    say(f"depot {depot_id}: microgrid {found.microgrid.microgrid_id} version {found.microgrid.version}: {told}")
