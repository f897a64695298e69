"""Ask an HTTP server at a steady rate, over connections that stay open, and tell how long each answer took.

The requests are due at fixed moments, whether or not the answers before have come, and the clock of each runs from the moment
that it was due: a server that stalls is charged for everyone who had to wait, as users would. The client is a bare one, so that
it takes as little as possible of the machine that it shares with what it measures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Self


class Asker:
    """One connection to a server on this machine. `headers` are lines that each end in CR LF."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: str) -> None:
        self._reader = reader
        self._writer = writer
        self._headers = headers

    @classmethod
    async def open(cls, port: int, headers: str = "") -> Self:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port), headers)

    async def get(self, path: str) -> bytes:
        """The body of an answer, as it came; raises RuntimeError for any but a 200."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n{self._headers}\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{path}: {head.decode().partition(chr(13))[0]}")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        return await self._reader.readexactly(length)

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()


async def load(port: int, paths: Sequence[str], *, rate: float, seconds: float, connections: int = 16) -> list[float]:
    """Ask for the paths in turn, `rate` times a second; the milliseconds of each answer."""
    begun = perf_counter() + 0.1
    took: list[float] = []
    numbers = iter(range(int(rate * seconds)))

    async def ask() -> None:
        asker = await Asker.open(port)
        for number in numbers:
            due = begun + number / rate
            await asyncio.sleep(max(due - perf_counter(), 0))
            await asker.get(paths[number % len(paths)])
            took.append((perf_counter() - due) * 1000)
        asker.close()

    async with asyncio.TaskGroup() as asking:
        for _ in range(connections):
            asking.create_task(ask())
    return took


async def one_after_the_other(asker: Asker, path: str, seconds: float) -> list[float]:
    """Ask for a path as soon as the answer before has come; the milliseconds of each answer."""
    ends = perf_counter() + seconds
    took: list[float] = []
    while (begun := perf_counter()) < ends:
        await asker.get(path)
        took.append((perf_counter() - begun) * 1000)
    return took
