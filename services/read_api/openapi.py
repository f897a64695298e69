"""The read API's OpenAPI document, as `contracts/openapi.read.json` holds it.

`python -m read_api.openapi contracts/openapi.read.json` writes it anew.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from event_store.database import Pool
from read_api.app import create_app
from service_runtime.access import Access
from service_runtime.feature_flags import load_flags
from service_runtime.problem import MEDIA_TYPE
from service_runtime.settings import SettingsFault

CODES = (
    "CHARGE_POINT_NOT_FOUND",
    "CIRCUIT_NOT_FOUND",
    "CONNECTOR_NOT_FOUND",
    "CONTROLLER_BINDING_NOT_FOUND",
    "DATABASE_UNAVAILABLE",
    "DEAD_LETTER_NOT_FOUND",
    "DEPOT_NOT_FOUND",
    "DEVICE_NOT_FOUND",
    "FORBIDDEN",
    "GATEWAY_NOT_FOUND",
    "IDENTITY_PROVIDER_UNAVAILABLE",
    "INTERNAL_ERROR",
    "INVALID_CURSOR",
    "INVALID_TIMESTAMP",
    "INVALID_VALUE",
    "METHOD_NOT_ALLOWED",
    "MICROGRID_NOT_FOUND",
    "MISSING_FIELD",
    "NOT_FOUND",
    "POWER_SOURCE_NOT_FOUND",
    "REPLAY_JOB_NOT_FOUND",
    "SENSOR_ACTION_NOT_FOUND",
    "SERVICE_UNAVAILABLE",
    "STREAM_UNAVAILABLE",
    "TOKEN_EXPIRED",
    "TOKEN_INVALID",
    "UNAUTHENTICATED",
    "UNKNOWN_FIELD",
    "VALIDATION_FAILED",
)
"""The codes that a refusal may have; other programs act on them."""


def openapi_text() -> str:
    """The document as indented JSON with a line end."""
    flags = load_flags(None)
    if isinstance(flags, SettingsFault):
        raise RuntimeError(flags.line())
    # Describing the routes needs no database, no time and no token.
    api = create_app(cast("Pool", None), lambda: datetime.min.replace(tzinfo=UTC), flags, Access(None))
    document = api.app.openapi()
    for operations in document["paths"].values():
        operation = operations["get"]
        for status, response in operation["responses"].items():
            if status != "200":
                # FastAPI describes a refusal also as being of the kind that the route's good answer has.
                response["content"] = {MEDIA_TYPE: response["content"][MEDIA_TYPE]}
        # An answer whose ETag is another is described where it is given.
        if "application/json" in operation["responses"]["200"]["content"] and "headers" not in operation["responses"]["200"]:
            _describe_etag(operation)
    document["x-codes"] = list(CODES)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _describe_etag(operation: dict[str, Any]) -> None:
    headers = {"ETag": {"description": "a hash over the body", "required": True, "schema": {"type": "string"}}}
    operation["responses"]["200"]["headers"] = headers
    operation["responses"]["304"] = {"description": "The asker has this already.", "headers": headers}
    known = {"description": "the ETag of an earlier answer; as long as it holds, the answer is 304 without a body"}
    parameter = {"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}, **known}
    operation.setdefault("parameters", []).append(parameter)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(openapi_text(), encoding="utf-8")
