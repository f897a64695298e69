"""How every answer of the read API looks and what every question may ask: JSON with an ETag, cursors, times, identifiers.

The ETag is strong: a hash over the bytes of the document, and the name of the coding where it goes out compressed. What is long is
compressed for whoever takes gzip; streams are answered elsewhere and never are. A cursor is opaque to who receives it: base64url of
a JSON list of where the page before ended. A parameter that is not understood, or not known, is refused; none is ignored.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from sensor_packet.identifiers import is_identifier
from sensor_packet.timestamps import parse_timestamp
from service_runtime.problem import FieldFault, Problem, problem_of_faults

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
Place = TypeVar("Place")
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?(?:,|$)", re.IGNORECASE)
_LONG_BYTES = 4096
"""Below this, compressing costs more time than sending."""
_GZIP_LEVEL = 1
"""The quickest: a structure of 1.7 MB becomes a tenth in 5 ms; level 9 takes twenty times as long for little more."""
_encode = msgspec.json.Encoder().encode

UuidText = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")]
"""A UUID inside a cursor."""
AwareMoment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time inside a cursor."""


def _moment(value: object) -> datetime:
    moment = parse_timestamp(value) if isinstance(value, str) else None
    if moment is None:
        raise PydanticCustomError("INVALID_TIMESTAMP", "not an RFC 3339 time with an offset (a + is written %2B in an address)")
    return moment


Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Code = Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,64}$")]
MeasurandKey = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
UuidParameter = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$")]
CapabilityName = Literal["PEAK_SHAVING", "DER"]


def told_as_one_of(names: Sequence[str]) -> WithJsonSchema:
    """How a text is described that is one of some names."""
    return WithJsonSchema({"type": "string", "enum": list(names)})


def told_as_some_of(names: Sequence[str]) -> WithJsonSchema:
    """How a text is described that is one or more of some names, separated by commas."""
    one = f"({'|'.join(map(re.escape, names))})"
    return WithJsonSchema({"type": "string", "pattern": f"^{one}(,{one})*$"})


class NoQuery(BaseModel):
    """A question without parameters; any is refused."""

    model_config = ConfigDict(extra="forbid")


class Page(NoQuery):
    """Which part of a list."""

    limit: int = Field(100, ge=1, le=500, description="most items of one page")
    cursor: str | None = Field(None, max_length=1000, description="`next` of the page before")


class TimeRange(NoQuery):
    """From when (inclusive) until when (exclusive) something was observed."""

    since: Moment | None = Field(None, alias="from", description="inclusive")
    until: Moment | None = Field(None, alias="to", description="exclusive")


def json_answer(request: Request, document: object) -> Response:
    """The document as JSON under its ETag, compressed if long and the asker takes gzip; 304 where they have it already."""
    body = _encode(document)
    is_long = len(body) >= _LONG_BYTES
    compressed = is_long and _takes_gzip(request.headers.get("accept-encoding", ""))
    etag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}{"-gzip" if compressed else ""}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if is_long:
        headers["Vary"] = "Accept-Encoding"
    known = request.headers.get("if-none-match")
    if known is not None and _names(known, etag):
        return Response(status_code=304, headers=headers)
    if compressed:
        headers["Content-Encoding"] = "gzip"
        # Without the time of compressing in it, the same document has the same bytes.
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
    return Response(body, headers=headers, media_type="application/json")


def encode_cursor(*place: object) -> str:
    """Where a page ended, as opaque text."""
    return base64.urlsafe_b64encode(_encode(place)).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, place: type[Place]) -> Place | None:
    """What `encode_cursor` wrote, as a tuple type; raises the 422 `INVALID_CURSOR` for anything else."""
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found: Any = msgspec.json.decode(text, type=place)
        return _storable(found)
    except (binascii.Error, msgspec.MsgspecError, ValueError, OverflowError):
        raise invalid_cursor("/query/cursor") from None


def invalid_cursor(pointer: str) -> Problem:
    """The refusal of a cursor that is not one of ours."""
    return problem_of_faults([FieldFault(pointer, "INVALID_CURSOR", "not a cursor that this list gave")])


def not_found(kind: str, identifier: str) -> Problem:
    """404 with `{KIND}_NOT_FOUND`; an identifier that could not exist is not repeated."""
    name = kind.lower().replace("_", " ")
    known_shape = is_identifier(identifier)
    return Problem(404, f"{kind}_NOT_FOUND", f"there is no {name} {identifier}" if known_shape else f"there is no such {name}")


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID in its usual spelling."""
    return _UUID.fullmatch(text) is not None


def _takes_gzip(accept_encoding: str) -> bool:
    """Whether an `Accept-Encoding` names gzip with a weight other than 0 (RFC 9110, section 12.5.3)."""
    found = _GZIP.search(accept_encoding)
    return found is not None and (found[1] is None or found[1].strip("0.") != "")


def _names(if_none_match: str, etag: str) -> bool:
    given = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return etag in given or "*" in given


def _storable(place: Any) -> Any:
    parts = cast("tuple[object, ...]", place)
    for part in parts:
        if isinstance(part, str) and "\0" in part:
            raise ValueError("U+0000")
        if isinstance(part, datetime):
            part.astimezone(UTC)
    return place
