"""Which codes the HTTP interface may answer with: by its descriptions, by the guides, and by the code."""

from __future__ import annotations

import ast

from tests.contracts.http_promises import described
from tests.contracts.test_docs import (
    CODE,
    QUOTED,
    ROOT,
    WAYS,
    codes_by_http_status,
    codes_in_returned_pairs,
    codes_in_site_schema,
    tables,
    texts_in,
    trees,
)

# A site file is YAML too, and only a file can be wrong in these ways.
FILES_ONLY = {"MALFORMED_YAML"}
# The local issuer's own pages, which are not part of the described interface.
SIGN_IN = {"INVALID_SIGN_IN", "NOT_LOCAL"}
# Of bodies, which a question has not.
_BODIES_ONLY = {"MALFORMED_JSON", "CONTENT_TOO_LARGE"}
_PACKETS = ("docs/guarantees.md",)
_GUIDES = {
    "read": ("docs/reading.md", "docs/access.md"),
    "command": ("docs/commanding.md", "docs/access.md", *_PACKETS),
}
_FOLDERS = {
    "read": ("services/read_api", "libs/service_runtime"),
    "command": ("services/command_api", "libs/service_runtime", "libs/site_operations", "libs/site_registry", "libs/sensor_packet"),
}


def promised(api: str) -> set[str]:
    """The codes in the description of an API."""
    return set(described(api)["x-codes"])


def explained(api: str) -> set[str]:
    """The codes in the tables of the guides of an API: those whose rows have a status or a stage."""
    found: set[str] = set()
    for page in _GUIDES[api]:
        for headings, rows in tables(ROOT / page):
            if "code" in headings and {"status", "stage"} & set(headings):
                found |= {code for row in rows for code in QUOTED.findall(row[headings.index("code")])}
    return found - SIGN_IN


def made(api: str) -> set[str]:
    """The codes that stand in the code of an API where a refusal is made."""
    ways = {way.function: way.position for way in WAYS}
    found = set(codes_by_http_status())
    if api == "command":
        found |= codes_in_site_schema() | codes_in_returned_pairs()
    for path, tree in trees().items():
        if any(path.is_relative_to(ROOT / folder) for folder in _FOLDERS[api]):
            found |= _made_in(tree, ways)
    return found - SIGN_IN - FILES_ONLY - (_BODIES_ONLY if api == "read" else set[str]())


def _made_in(tree: ast.Module, ways: dict[str, int]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        position = ways.get(name)
        if position is not None and len(node.args) > position:
            found |= {text for text in texts_in(node.args[position]) if CODE.fullmatch(text)}
        elif name == "not_found" and node.args:
            found |= {f"{text.upper()}_NOT_FOUND" for text in texts_in(node.args[0])}
    return found


def missing_in(code: str, named: str) -> str | None:
    """Why a test that is named as `tests/a/test_b.py::test_c` does not see a code; None where it does."""
    path, _, function = named.partition("::")
    file = ROOT / path
    if not file.is_file():
        return f"{path} is not there"
    source = file.read_text(encoding="utf-8")
    if f"def {function}(" not in source:
        return f"{path} has no {function}"
    return None if f'"{code}"' in source else f"{path} does not know {code}"
