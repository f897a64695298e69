"""The command API's OpenAPI document, as `contracts/openapi.command.json` holds it.

`python -m command_api.openapi contracts/openapi.command.json` writes it anew.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from command_api.app import create_app
from command_api.codes import CODES
from event_store.database import Pool
from service_runtime.access import Access
from service_runtime.problem import MEDIA_TYPE


def openapi_text() -> str:
    """The document as indented JSON with a line end."""
    # Describing the routes needs no database, no time and no token.
    app = create_app(cast("Pool", None), lambda: datetime.min.replace(tzinfo=UTC), str, Access(None))
    document = app.openapi()
    for operations in document["paths"].values():
        for operation in cast("dict[str, dict[str, Any]]", operations).values():
            for status, response in operation["responses"].items():
                if not status.startswith("2"):
                    # FastAPI describes a refusal also as being of the kind that the route's good answer has.
                    response["content"] = {MEDIA_TYPE: response["content"][MEDIA_TYPE]}
                elif status == "201":
                    location = {"description": "where it is from now on", "required": True, "schema": {"type": "string"}}
                    response["headers"] = {"Location": location, **response.get("headers", {})}
    document["x-codes"] = list(CODES)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(openapi_text(), encoding="utf-8")
