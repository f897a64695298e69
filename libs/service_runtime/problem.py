"""HTTP errors as RFC 9457 problem documents, one shape for whatever went wrong.

Rules: every error answer is `application/problem+json` with a stable upper-case `code`. A request with one fault gets that
fault's own code, one with several gets `VALIDATION_FAILED` and the list. A fault in the body has a JSON pointer into the body;
one elsewhere a pointer that begins with `/query`, `/path`, `/header` or `/cookie`. A validator may choose the code by raising
`PydanticCustomError("UPPER_CASE_CODE", …)`. What was unexpected says nothing of its cause: that stands in the log.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import compile_path

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


def problem_of_body(fault: ValidationError) -> Problem:
    """The problem for a body that a model refused."""
    return problem_of_faults([_field_fault({**error, "loc": ("body", *error["loc"])}) for error in fault.errors()])


def answer(problem: Problem, instance: str) -> JSONResponse:
    """The response for a problem."""
    return JSONResponse(problem.document(instance), status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` argument of a FastAPI route that may answer with problems of these statuses."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {status: {"model": ProblemDocument, "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses}


def methods_described(openapi: bytes) -> dict[str, list[str]]:
    """The methods of each path of an OpenAPI document, by path template."""
    paths: dict[str, dict[str, Any]] = json.loads(openapi)["paths"]
    return {path: sorted(method.upper() for method in operations) for path, operations in paths.items()}


def install_problem_answers(app: FastAPI, elsewhere: Mapping[str, Collection[str]] | None = None) -> None:
    """Make every error of the app a problem document.

    `elsewhere` are the methods, by path template, that another process answers at the same address: a path that is there for them
    alone is 405 and not 404, and `Allow` names them too.
    """
    others = [(compile_path(path)[0], methods) for path, methods in (elsewhere or {}).items()]

    def raised(request: Request, fault: Exception) -> JSONResponse:
        return answer(cast("Problem", fault), request.url.path)

    def refused(request: Request, fault: Exception) -> JSONResponse:
        faults = [_field_fault(error) for error in cast("RequestValidationError", fault).errors()]
        return answer(problem_of_faults(faults), request.url.path)

    def by_status(request: Request, fault: Exception) -> JSONResponse:
        found = cast("HTTPException", fault)
        status, headers, path = found.status_code, found.headers, request.url.path
        if status in (404, 405):
            ours = ((route.path, route.methods) for route in iter_route_contexts(app.routes))
            known = [*others, *((compile_path(template)[0], methods) for template, methods in ours if template and methods)]
            allowed = {method for pattern, methods in known for method in methods if pattern.match(path)}
            status = 405 if allowed else status
            headers = {"Allow": ", ".join(sorted(allowed))} if allowed else headers
        code = _STATUS_CODES.get(status, HTTPStatus(status).name)
        detail = {404: f"nothing is at {path}", 405: f"{request.method} is not possible at {path}"}.get(status, found.detail)
        return answer(Problem(status, code, detail, headers=headers), path)

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
