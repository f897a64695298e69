"""The read API's OpenAPI document, as `contracts/openapi.read.json` holds it.

`python -m read_api.openapi contracts/openapi.read.json` writes it anew.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from event_store.database import Pool
from read_api.app import create_app
from service_runtime.feature_flags import load_flags
from service_runtime.problem import MEDIA_TYPE
from service_runtime.settings import SettingsFault


def openapi_text() -> str:
    """The document as indented JSON with a line end."""
    flags = load_flags(None)
    if isinstance(flags, SettingsFault):
        raise RuntimeError(flags.line())
    # Describing the routes needs no database and no time.
    api = create_app(cast("Pool", None), lambda: datetime.min.replace(tzinfo=UTC), flags)
    document = api.app.openapi()
    for operations in document["paths"].values():
        for status, response in operations["get"]["responses"].items():
            if status != "200":
                # FastAPI describes a refusal also as being of the kind that the route's good answer has.
                response["content"] = {MEDIA_TYPE: response["content"][MEDIA_TYPE]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(openapi_text(), encoding="utf-8")
