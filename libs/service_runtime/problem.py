"""HTTP errors as RFC 9457 problem documents, one shape for whatever went wrong.

Rules: every error answer is `application/problem+json` with a stable upper-case `code`. A request with one fault gets that
fault's own code, one with several gets `VALIDATION_FAILED` and the list. A fault in the body has a JSON pointer into the body;
one elsewhere a pointer that begins with `/query`, `/path`, `/header` or `/cookie`. A validator may choose the code by raising
`PydanticCustomError("UPPER_CASE_CODE", …)`. What was unexpected says nothing of its cause: that stands in the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"

# From pydantic's kinds of error to codes; what is not listed is INVALID_VALUE.
_CODES = {
    "extra_forbidden": "UNKNOWN_FIELD",
    "missing": "MISSING_FIELD",
    "json_invalid": "MALFORMED_JSON",
    "timezone_aware": "INVALID_TIMESTAMP",
    "datetime_parsing": "INVALID_TIMESTAMP",
    "datetime_from_date_parsing": "INVALID_TIMESTAMP",
    "datetime_type": "INVALID_TIMESTAMP",
}
_STATUS_CODES = {405: "METHOD_NOT_ALLOWED", 404: "NOT_FOUND", 413: "CONTENT_TOO_LARGE"}


class ProblemFault(BaseModel):
    """One field at fault."""

    pointer: str
    code: str
    detail: str


class ProblemDocument(BaseModel):
    """The body of every error answer."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ProblemFault] | None = None


@dataclass(frozen=True)
class FieldFault:
    """A field at fault: a JSON pointer to it, a stable code, a sentence for a person."""

    pointer: str
    code: str
    detail: str


class Problem(Exception):
    """An error answer, raised at the HTTP edge. `extra` are further members of the document, `headers` of the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldFault] = (),
        title: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.title = title or HTTPStatus(status).phrase
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def document(self, instance: str) -> dict[str, Any]:
        """The document's members, for a request to the path `instance`."""
        members: dict[str, Any] = {
            "type": f"urn:depotgrid:problem:{self.code.lower().replace('_', '-')}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
        }
        if self.errors:
            members["errors"] = [{"pointer": f.pointer, "code": f.code, "detail": f.detail} for f in self.errors]
        return {**self.extra, **members}


def problem_of_faults(faults: Sequence[FieldFault], *, status: int = 422) -> Problem:
    """The problem for one or several field faults: a single one lends its code."""
    if len(faults) == 1:
        return Problem(status, faults[0].code, faults[0].detail, errors=faults)
    return Problem(status, "VALIDATION_FAILED", f"{len(faults)} fields are at fault", errors=faults)


def answer(problem: Problem, instance: str) -> JSONResponse:
    """The response for a problem."""
    return JSONResponse(problem.document(instance), status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` argument of a FastAPI route that may answer with problems of these statuses."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {status: {"model": ProblemDocument, "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses}


def install_problem_answers(app: FastAPI) -> None:
    """Make every error of the app a problem document."""

    def raised(request: Request, fault: Exception) -> JSONResponse:
        return answer(cast("Problem", fault), request.url.path)

    def refused(request: Request, fault: Exception) -> JSONResponse:
        faults = [_field_fault(error) for error in cast("RequestValidationError", fault).errors()]
        return answer(problem_of_faults(faults), request.url.path)

    def by_status(request: Request, fault: Exception) -> JSONResponse:
        found = cast("HTTPException", fault)
        code = _STATUS_CODES.get(found.status_code, HTTPStatus(found.status_code).name)
        detail = {
            404: f"nothing is at {request.url.path}",
            405: f"{request.method} is not possible at {request.url.path}",
        }.get(found.status_code, found.detail)
        return answer(Problem(found.status_code, code, detail, headers=found.headers), request.url.path)

    def unexpected(request: Request, _fault: Exception) -> JSONResponse:
        detail = "the server failed at this request; its log has the cause"
        return answer(Problem(500, "INTERNAL_ERROR", detail), request.url.path)

    app.add_exception_handler(Problem, raised)
    app.add_exception_handler(RequestValidationError, refused)
    app.add_exception_handler(HTTPException, by_status)
    app.add_exception_handler(Exception, unexpected)


def json_pointer(steps: Sequence[str | int]) -> str:
    """RFC 6901 pointer of the steps from the root."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)


def _field_fault(error: Mapping[str, Any]) -> FieldFault:
    kind: str = error["type"]
    place, *steps = cast("Sequence[str | int]", error["loc"]) or ("body",)
    if kind == "json_invalid":
        steps = []  # pydantic gives the position in the text, which is no member
    pointer = json_pointer(steps if place == "body" else [place, *steps])
    code = kind if kind.isupper() else _CODES.get(kind, "INVALID_VALUE")
    where = "the body" if place == "body" and not steps else f"{'.'.join(str(step) for step in steps)} in the {place}"
    return FieldFault(pointer, code, f"{where}: {str(error['msg'])[:1].lower()}{str(error['msg'])[1:]}")
