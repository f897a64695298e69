"""The latest status of a capability, and whether to trust it.

The latest value of anything that is reported is its report with the greatest (observed_at, sent_at, event_id) among those that
count (`history_only` ones do not). The order of arrival plays no part, so a replayed or late report enters history and never
turns the card back, and the same report twice changes nothing. `event_store` answers this from an index; `fold_latest` is the
rule itself, in which the index is tested.

A status is `FRESH` up to `stale_after_s` of its control point and `STALE` beyond, counted from the earlier of the time of
observation and of receipt: a device whose clock runs ahead does not stay fresh for longer. What is bound and was never reported
is `NEVER_REPORTED`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from microgrid.events import Event

FRESH = "FRESH"
STALE = "STALE"
NEVER_REPORTED = "NEVER_REPORTED"


@dataclass(frozen=True, slots=True)
class Freshness:
    """`age_s` is in seconds and never below 0; `stale_at` is the moment at which the status turns stale."""

    freshness: str
    age_s: float | None
    stale_at: datetime | None


def latest_key(event: Event) -> tuple[datetime, datetime, str]:
    """What decides which of two reports of a subject is the latest."""
    return (event.observed_at, event.sent_at, event.event_id)


def fold_latest(reports: Iterable[Event]) -> dict[str, Event]:
    """The latest counting report of each subject, whatever the order of `reports`."""
    latest: dict[str, Event] = {}
    for event in reports:
        if event.subject is None or event.history_only:
            continue
        known = latest.get(event.subject)
        if known is None or latest_key(event) > latest_key(known):
            latest[event.subject] = event
    return latest


def freshness(observed_at: datetime | None, received_at: datetime | None, stale_after_s: float, now: datetime) -> Freshness:
    """How old a status is at `now`; both times None for one that was never reported."""
    if observed_at is None:
        return Freshness(NEVER_REPORTED, None, None)
    since = observed_at if received_at is None else min(observed_at, received_at)
    stale_at = since + timedelta(seconds=stale_after_s)
    age_s = max(0.0, (now - since).total_seconds())
    return Freshness(FRESH if now <= stale_at else STALE, age_s, stale_at)
