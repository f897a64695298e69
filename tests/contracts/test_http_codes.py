"""What the HTTP interface may refuse with: descriptions, guides and code name the same codes.

That each of them is really answered is shown in `tests/read_api/test_codes.py` and `tests/command_api/test_codes.py`.
"""

from __future__ import annotations

import pytest
from tests.contracts.http_codes import explained, made, promised
from tests.contracts.http_promises import APIS

_WHERE = {
    "read": "CODES in services/read_api/openapi.py, the last table of docs/reading.md",
    "command": "CODES in services/command_api/codes.py, the last table of docs/commanding.md",
}


@pytest.mark.parametrize("api", APIS)
def test_every_code_that_is_described_is_explained(api: str) -> None:
    assert promised(api) - explained(api) == set(), _WHERE[api]


@pytest.mark.parametrize("api", APIS)
def test_every_code_that_is_explained_is_described(api: str) -> None:
    assert explained(api) - promised(api) == set(), _WHERE[api]


@pytest.mark.parametrize("api", APIS)
def test_every_code_that_is_made_is_described(api: str) -> None:
    assert made(api) - promised(api) == set(), _WHERE[api]
