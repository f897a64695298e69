"""How commands speak: results on standard output, as a table or JSON; faults as plain lines on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_PIPE_WIDTH = 400


def say(text: str) -> None:
    """A line of the result."""
    print(text, flush=True)


def complain(text: str) -> None:
    """A fault, line by line, for a person."""
    for line in text.splitlines():
        print(f"depotgrid: {line}", file=sys.stderr, flush=True)


def show_json(value: Any) -> None:
    """A result for other programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str), flush=True)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, error: bool = False) -> None:
    """Rows under headings; as wide as it needs to be where nobody looks at it on a terminal."""
    stream = sys.stderr if error else sys.stdout
    console = Console(file=stream, highlight=False, markup=False, width=None if stream.isatty() else _PIPE_WIDTH)
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)
