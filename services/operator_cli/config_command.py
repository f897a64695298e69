"""`depotgrid config`: every setting with its value, where that came from, and what it means."""

from __future__ import annotations

from dataclasses import asdict

from operator_cli.output import show_json, show_table
from operator_cli.places import AsJson, settings_or_fault
from service_runtime.settings import describe


def config(*, as_json: AsJson = False) -> int:
    """Show every setting with its value, source and meaning; passwords are hidden."""
    rows = describe(settings_or_fault())
    if as_json:
        show_json({"items": [asdict(row) for row in rows]})
    else:
        show_table(("setting", "value", "from", "meaning"), [(row.name, row.value, row.source, row.meaning) for row in rows])
    return 0
