"""Provision every depot that has a valid top-level circuit and no microgrid: what an older system left behind.

Depots are walked in order of their ids, a page at a time, and each that wants a microgrid is provisioned in a transaction of its
own, several at once on a few connections. So whatever stops a run, every depot is either done or untouched, and the next run
goes on from there; a run that finds nothing to do writes nothing. Circuits may change meanwhile: the decision is made anew under
the depot's lock, and a depot that somebody else provisioned first counts as one that had its microgrid.

A depot that can not be provisioned, or that somebody keeps locked for longer than `LOCK_WAIT_S`, is reported as failed and keeps
no other one from its turn. A database that goes away or no longer answers ends the run with its error.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from event_store.database import COLLISIONS, Connection, Pool
from microgrid.provisioning import is_named
from site_operations.provision_microgrid import TRIES, DepotNotFound, NoTopLevelCircuit, provision_within
from site_registry.load_structure import DepotState, count_depots, list_depot_states
from site_registry.write import bound_lock_wait

PROVISIONED = "PROVISIONED"
ALREADY_PROVISIONED = "ALREADY_PROVISIONED"
NO_TOP_LEVEL_CIRCUIT = "NO_TOP_LEVEL_CIRCUIT"
DELETED_MEANWHILE = "DELETED_MEANWHILE"
FAILED = "FAILED"
OUTCOMES = (PROVISIONED, ALREADY_PROVISIONED, NO_TOP_LEVEL_CIRCUIT, DELETED_MEANWHILE, FAILED)

AT_ONCE = 6
LOCK_WAIT_S = 20.0
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in depots; `total` was counted at its start."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A depot that could not be provisioned, and what the database or the code said."""

    depot_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class BackfillSummary:
    """How many depots came to which outcome (each of `OUTCOMES` is there), those without circuit and those that failed by id.

    Of a trial (`dry_run`) `PROVISIONED` counts those that a run would provision.
    """

    dry_run: bool
    outcomes: dict[str, int]
    without_circuit: tuple[str, ...]
    failures: tuple[Failure, ...]

    @property
    def failed(self) -> bool:
        """Whether any depot failed."""
        return bool(self.failures)


async def backfill(
    pool: Pool,
    *,
    dry_run: bool,
    now: datetime,
    new_id: Callable[[], str],
    progress: Callable[[Progress], None],
    lock_wait_s: float = LOCK_WAIT_S,
) -> BackfillSummary:
    """Provision what lacks its microgrid, or only tell what that would do; see above.

    Holds up to `AT_ONCE` connections of the pool, fewer if it has fewer. `now` stamps rows and events; `new_id` gives UUIDs
    (version 7) as text; `progress` is told at the start and after every depot. Raises what asyncpg raises when the database goes
    away or takes longer than the connection allows.
    """
    async with pool.acquire() as connection:
        run = _Run(dry_run, now, new_id, progress, await count_depots(connection))
    progress(Progress(0, run.total))
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(1 if dry_run else min(AT_ONCE, pool.get_max_size())):
                tasks.create_task(_work(pool, run, lock_wait_s))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return BackfillSummary(
        dry_run,
        {outcome: run.outcomes[outcome] for outcome in OUTCOMES},
        tuple(sorted(run.without_circuit)),
        tuple(sorted(run.failures, key=lambda failure: failure.depot_id)),
    )


@dataclass
class _Run:
    """What the workers of one run share: the walk over the depots, and what came of them."""

    dry_run: bool
    now: datetime
    new_id: Callable[[], str]
    progress: Callable[[Progress], None]
    total: int
    outcomes: Counter[str] = field(default_factory=Counter[str])
    without_circuit: list[str] = field(default_factory=list[str])
    failures: list[Failure] = field(default_factory=list[Failure])
    page: list[DepotState] = field(default_factory=list[DepotState])
    after: str = ""
    walking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def next_depot(self, connection: Connection) -> DepotState | None:
        """The depot that is next, or None after the last one; a page is fetched by whoever finds the last one used up."""
        async with self.walking:
            if not self.page:
                self.page = (await list_depot_states(connection, after=self.after, limit=_PAGE))[::-1]
                if not self.page:
                    return None
                self.after = self.page[0].depot_id
            return self.page.pop()

    def note(self, depot_id: str, outcome: str, reason: str = "") -> None:
        """Count a depot."""
        self.outcomes[outcome] += 1
        if outcome == NO_TOP_LEVEL_CIRCUIT:
            self.without_circuit.append(depot_id)
        elif outcome == FAILED:
            self.failures.append(Failure(depot_id, reason))
        self.progress(Progress(self.outcomes.total(), self.total))


async def _work(pool: Pool, run: _Run, lock_wait_s: float) -> None:
    async with pool.acquire() as connection:
        # The pool takes it back when the connection returns to it.
        await bound_lock_wait(connection, lock_wait_s)
        while (state := await run.next_depot(connection)) is not None:
            if state.has_microgrid:
                run.note(state.depot_id, ALREADY_PROVISIONED)
            elif not any(is_named(name) for name in state.top_level_names):
                run.note(state.depot_id, NO_TOP_LEVEL_CIRCUIT)
            elif run.dry_run:
                run.note(state.depot_id, PROVISIONED)
            else:
                await _provision(connection, run, state.depot_id)


async def _provision(connection: Connection, run: _Run, depot_id: str) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            async with connection.transaction():
                found = await provision_within(connection, depot_id, now=run.now, new_id=run.new_id)
        except TimeoutError:
            # Waiting for a lock ends earlier, so it is the database that does not answer.
            raise
        except Exception as fault:
            if connection.is_closed():
                raise
            if isinstance(fault, COLLISIONS) and attempt < TRIES:
                continue
            # Whatever is wrong with this depot, the others shall have their turn.
            run.note(depot_id, FAILED, (str(fault) or type(fault).__name__).splitlines()[0])
            return
        if isinstance(found, NoTopLevelCircuit):
            run.note(depot_id, NO_TOP_LEVEL_CIRCUIT)
        elif isinstance(found, DepotNotFound):
            run.note(depot_id, DELETED_MEANWHILE)
        else:
            run.note(depot_id, PROVISIONED if found.created else ALREADY_PROVISIONED)
        return
