"""From a request to a command that is carried out once: its body within a bound, its key, who asks; and the answer back.

A handler gets the connection of the command's transaction, the caller and the body; it gives an `Answer`, or raises the `Problem`
that refuses the command and takes back what it wrote.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import msgspec
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from command_api.answers import not_found, refused
from command_api.backing import Backing
from event_store.database import Connection
from service_runtime.access import Principal, principal_of
from service_runtime.problem import FieldFault, Problem, json_pointer, problem_of_faults
from site_operations.conduct import Answer, Command, conduct
from site_operations.ingest import printable
from site_registry.find_depot import depot_of

MOST_BYTES = 1024 * 1024
"""Most bytes of a command's body, where nothing else is said."""
_LONGEST_KEY = 255


class NoQuery(BaseModel):
    """A command without parameters in its address; any is refused."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Given:
    """What a handler works with."""

    connection: Connection
    principal: Principal
    body: bytes

    def document(self) -> object:
        """The body as JSON; raises the 422 for what is none."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            reason = str(fault) or "nested too deeply"
            raise problem_of_faults([FieldFault("", "MALFORMED_JSON", f"the body is no JSON: {reason}")]) from None

    def expect_nothing(self) -> None:
        """Raises the 422 for a body with anything in it, where none is expected."""
        document = self.document() if self.body.strip() else None
        if document is None or document == {}:
            return
        if not isinstance(document, dict):
            raise problem_of_faults([FieldFault("", "INVALID_VALUE", "an object is expected, or nothing")])
        names = cast("dict[str, object]", document)
        raise problem_of_faults([FieldFault(json_pointer([name]), "UNKNOWN_FIELD", "nothing is expected here") for name in names])

    async def require_seen(self, kind: str, identifier: str) -> None:
        """Raises the 404 of a thing that is not there, for one of a depot that is not the caller's."""
        if self.principal.depots is None:
            return
        depot_id = await depot_of(self.connection, kind, identifier)
        if depot_id is None or not self.principal.may_see(depot_id):
            raise not_found(kind, identifier)


Handler = Callable[[Given], Awaitable[Answer]]


async def carry_out(
    backing: Backing, request: Request, handler: Handler, *, most_bytes: int = MOST_BYTES, keep_request: bool = True
) -> Response:
    """Carry a command out once and answer it; `keep_request` keeps the beginning of its body for audit."""
    principal = principal_of(request)
    body = await _body(request, most_bytes)
    # The database holds no U+0000, wherever an address or a token may have one.
    path = printable(request.url.path)
    command = Command(
        printable(principal.subject),
        request.method,
        path,
        printable(request.url.query),
        body,
        _key(request),
        body if keep_request else None,
    )

    async def work(connection: Connection) -> Answer:
        try:
            return await handler(Given(connection, principal, body))
        except Problem as problem:
            return refused(problem, path)

    def key_reused() -> Answer:
        detail = "the key stood for another request; use a new key for a new command"
        fault = FieldFault("/header/Idempotency-Key", "IDEMPOTENCY_KEY_REUSED", detail)
        return refused(problem_of_faults([fault]), path)

    answer = await conduct(backing.pool, command, work, key_reused=key_reused, now=backing.clock())
    return Response(answer.body, answer.status, headers=dict(answer.headers))


async def _body(request: Request, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    length = 0
    async for part in request.stream():
        length += len(part)
        if length > most_bytes:
            raise Problem(413, "CONTENT_TOO_LARGE", f"the body is larger than {most_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def _key(request: Request) -> str | None:
    given = request.headers.getlist("idempotency-key") if request.method == "POST" else []
    if not given:
        return None
    key = given[0]
    if len(given) > 1 or not 0 < len(key) <= _LONGEST_KEY or not (key.isascii() and key.isprintable()):
        detail = f"one key of 1 to {_LONGEST_KEY} printable ASCII characters is expected"
        raise problem_of_faults([FieldFault("/header/Idempotency-Key", "INVALID_VALUE", detail)])
    return key
