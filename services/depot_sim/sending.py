"""What the ways of sending have in common: a packet on its way, what is told of it, and when it is given up.

A sender takes packets in order and tells of each, by its number, once whoever took it has confirmed it: the broker, or over
HTTP the product itself, which then also says what it refused. A packet that is not confirmed is sent again, over a new
connection where need be, so that it may arrive twice and never not at all. When nothing has been confirmed for `PATIENCE_S`,
the sender gives up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PATIENCE_S = 20.0
RETRY_S = 0.25


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A packet on its way: its number in the run, its address, its bytes."""

    number: int
    topic: str
    device_id: str
    body: bytes


Confirmed = Callable[[int, str | None], None]
"""Told of a packet's number once it is confirmed, and the code of the refusal where it was refused on the spot (HTTP only)."""


class UndeliveredError(Exception):
    """Nobody confirms packets any more; the text says who was asked and what they said."""
