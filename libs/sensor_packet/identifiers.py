"""Which texts may stand for a depot, circuit, device, gateway, power source, charge point or connector."""

from __future__ import annotations

import re

IDENTIFIER = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_matches = IDENTIFIER.fullmatch


def is_identifier(text: str) -> bool:
    """Tell whether the whole text is an identifier: 1 to 64 of `A-Z a-z 0-9 . _ : -`."""
    return _matches(text) is not None
