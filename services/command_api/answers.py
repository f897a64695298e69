"""How every outcome of a command is told: the one place where HTTP statuses are chosen."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from service_runtime.problem import MEDIA_TYPE, FieldFault, Problem, problem_of_faults
from site_operations.change_site import Faulty, InUse, NotFound
from site_operations.conduct import Answer
from site_registry.site_file import SiteFault

_CONFLICTS = frozenset({"ALREADY_EXISTS", "CIRCUIT_CYCLE", "CAPABILITY_SOURCE_CONFLICT"})
_MOST_NAMED = 20
_encode = msgspec.json.Encoder().encode


def done(status: int, document: object, *, location: str | None = None, etag: str | None = None) -> Answer:
    """A command that was carried out, with its document."""
    headers = {"content-type": "application/json"}
    if etag is not None:
        headers["etag"] = etag
    if location is not None:
        headers["location"] = location
    return Answer(status, _encode(document), headers)


def gone() -> Answer:
    """Something that was deleted."""
    return Answer(204, b"")


def refused(problem: Problem, instance: str) -> Answer:
    """A refusal as a problem document, for a request to the path `instance`."""
    headers = {**{name.lower(): value for name, value in problem.headers.items()}, "content-type": MEDIA_TYPE}
    return Answer(problem.status, _encode(problem.document(instance)), headers, refused=True, code=problem.code)


def problem_of(outcome: NotFound | Faulty | InUse) -> Problem:
    """The problem that an outcome is."""
    match outcome:
        case NotFound(kind=kind, identifier=identifier):
            return not_found(kind, identifier)
        case Faulty(faults=faults):
            return problem_of_site_faults(faults)
        case InUse(kind=kind, identifier=identifier, by=by):
            more = f" and {len(by) - _MOST_NAMED} more" if len(by) > _MOST_NAMED else ""
            detail = f"{_plain(kind)} {identifier} is used by {', '.join(by[:_MOST_NAMED])}{more}; change or delete these first"
            return Problem(409, f"{kind.upper()}_IN_USE", detail)


def not_found(kind: str, identifier: str) -> Problem:
    """404 for a thing of a kind that there is not."""
    return Problem(404, f"{kind.upper()}_NOT_FOUND", f"there is no {_plain(kind)} {identifier[:64]}".rstrip())


def problem_of_site_faults(faults: Sequence[SiteFault]) -> Problem:
    """One fault is told by its own code, with 409 for what stands against what is there; several are 422."""
    fields = [FieldFault(fault.pointer, fault.code, fault.detail) for fault in faults]
    status = 409 if len(fields) == 1 and fields[0].code in _CONFLICTS else 422
    return problem_of_faults(fields, status=status)


def _plain(kind: str) -> str:
    return kind.replace("_", " ")
