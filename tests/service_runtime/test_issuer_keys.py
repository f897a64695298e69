"""An issuer's keys are found, kept, and read anew when it matters, and never more often."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.service_runtime.identity import ISSUER, KEYS, OTHER_RSA_KEY, Clock, jwks

from service_runtime.access_tokens import KeysUnavailable
from service_runtime.issuer_keys import CONFIGURATION, NOT_SOONER, READ_ANEW_AFTER, STAND_FOR, IssuerKeys, fetch_bounded

_JWKS_URI = "https://keys.issuer.example/jwks"


class Issuer:
    """What an issuer answers, and how often it was asked for its keys."""

    def __init__(self) -> None:
        self.answers = {
            ISSUER + CONFIGURATION: json.dumps({"issuer": ISSUER, "jwks_uri": _JWKS_URI}).encode(),
            _JWKS_URI: jwks(),
        }
        self.asked = 0
        self.clock = Clock()
        self.answering = asyncio.Event()
        self.answering.set()
        self.keys = IssuerKeys(ISSUER, self.clock, self._fetch)

    async def _fetch(self, address: str) -> bytes:
        self.asked += address == ISSUER + CONFIGURATION
        await self.answering.wait()
        if address not in self.answers:
            raise OSError("no answer")
        return self.answers[address]

    async def find(self, kid: str | None) -> list[str | None] | None:
        """The ids of the keys that are found; None when they are not to be had."""
        found = await self.keys.find(kid)
        return None if isinstance(found, KeysUnavailable) else [key.kid for key in found]

    def rotate(self) -> None:
        """Publish one more key."""
        self.answers[_JWKS_URI] = jwks({**KEYS, "new": OTHER_RSA_KEY})


async def test_keys_are_read_once_and_kept() -> None:
    issuer = Issuer()
    assert await issuer.find("ec") == ["ec"]
    assert await issuer.find(None) == ["rsa", "ec", "ed"]
    assert issuer.asked == 1


async def test_many_first_requests_at_once_read_them_once() -> None:
    issuer = Issuer()
    assert await asyncio.gather(*(issuer.find("ec") for _ in range(20))) == [["ec"]] * 20
    assert issuer.asked == 1


async def test_a_key_id_that_is_new_is_found_once_the_issuer_has_it() -> None:
    issuer = Issuer()
    await issuer.find("ec")
    issuer.rotate()
    issuer.clock.turn(NOT_SOONER.total_seconds())
    assert await issuer.find("new") == ["new"]
    assert issuer.asked == 2


async def test_invented_key_ids_ask_the_issuer_only_every_ten_seconds() -> None:
    issuer = Issuer()
    for number in range(100):
        assert await issuer.find(f"invented-{number}") == []
    assert issuer.asked == 1
    issuer.clock.turn(NOT_SOONER.total_seconds())
    for number in range(100):
        assert await issuer.find(f"invented-{number}") == []
    assert issuer.asked == 2


async def test_old_keys_are_read_anew_so_that_one_taken_back_stops_to_count() -> None:
    issuer = Issuer()
    await issuer.find("ec")
    issuer.answers[_JWKS_URI] = jwks({"rsa": KEYS["rsa"]})
    issuer.clock.turn(READ_ANEW_AFTER.total_seconds() - 1)
    assert await issuer.find("ec") == ["ec"]
    issuer.clock.turn(1)
    assert await issuer.find("ec") == []


async def test_while_old_keys_are_read_anew_others_do_not_wait() -> None:
    issuer = Issuer()
    await issuer.find("ec")
    issuer.clock.turn(READ_ANEW_AFTER.total_seconds())
    issuer.answering.clear()
    reading = asyncio.create_task(issuer.find("ec"))
    await asyncio.sleep(0)
    assert await issuer.find("ec") == ["ec"]
    assert not reading.done()
    issuer.answering.set()
    assert await reading == ["ec"]


async def test_keys_stand_for_a_day_without_the_issuer_and_no_longer() -> None:
    issuer = Issuer()
    await issuer.find("ec")
    issuer.answers.clear()
    issuer.clock.turn(STAND_FOR.total_seconds() - 1)
    assert await issuer.find("ec") == ["ec"]
    issuer.clock.turn(NOT_SOONER.total_seconds())
    assert await issuer.find("ec") is None


async def test_an_issuer_that_did_not_answer_is_asked_again_later() -> None:
    issuer = Issuer()
    answers, issuer.answers = issuer.answers, {}
    assert await issuer.find("ec") is None
    issuer.answers = answers
    assert await issuer.find("ec") is None
    issuer.clock.turn(NOT_SOONER.total_seconds())
    assert await issuer.find("ec") == ["ec"]


@pytest.mark.parametrize(
    "configuration",
    [
        b"",
        b"[]",
        b"{}",
        json.dumps({"issuer": "https://other.example", "jwks_uri": _JWKS_URI}).encode(),
        json.dumps({"issuer": ISSUER}).encode(),
        json.dumps({"issuer": ISSUER, "jwks_uri": "http://keys.issuer.example/jwks"}).encode(),
        json.dumps({"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}).encode(),
        json.dumps({"issuer": ISSUER, "jwks_uri": "https://[broken"}).encode(),
        b"\xff",
    ],
)
async def test_a_configuration_that_can_not_be_trusted_gives_no_keys(configuration: bytes) -> None:
    issuer = Issuer()
    issuer.answers[ISSUER + CONFIGURATION] = configuration
    assert await issuer.find("rsa") is None


async def test_what_is_fetched_has_a_bound() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 1_000_000)
        writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(ValueError, match="more than"):
            await fetch_bounded(f"http://{host}:{port}/jwks")
