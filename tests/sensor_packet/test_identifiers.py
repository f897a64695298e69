"""Identifiers that come from outside."""

from __future__ import annotations

import pytest

from sensor_packet.identifiers import is_identifier


@pytest.mark.parametrize("text", ["a", "gw-1", "A.b_c:d-9", "-", "9", "x" * 64])
def test_1_to_64_of_the_allowed_characters_are_an_identifier(text: str) -> None:
    assert is_identifier(text)


@pytest.mark.parametrize("text", ["", "x" * 65, "a b", "a/b", "a+", "#", "é", "a\n", "a\x00", "１", "a\ud800"])
def test_anything_else_is_none(text: str) -> None:
    assert not is_identifier(text)
