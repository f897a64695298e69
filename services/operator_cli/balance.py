"""`depotgrid balance`: ask the load balancer about an input in a file, and read why each charger gets what it gets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

from cyclopts import App, Parameter

from load_balancer import Allocated, Rejected, explain
from load_balancer.json_form import read_case, write_result

app = App(name="balance", help="Ask the load balancer about a site in a file.")


@app.command(name="explain")
def explain_file(
    file: Path,
    /,
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="The whole result as JSON, with the sentences.")] = False,
) -> int:
    """Balance the site in FILE and say in one sentence per charger why it gets what it gets.

    Parameters
    ----------
    file: Path
        A JSON file in the form of contracts/balancing: an input, or a scenario that holds one.

    Returns
    -------
    int
        0; 1 if the input cannot be balanced; 2 if the file cannot be read.
    """
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        print(f"{file}: {fault}", file=sys.stderr)
        return 2
    case = read_case(_input_of(document))
    result = case if isinstance(case, Rejected) else case.allocate()
    if as_json:
        print(json.dumps({**write_result(result), "sentences": _sentences(result)}, indent=2, ensure_ascii=False))
    elif isinstance(result, Rejected):
        print(f"rejected ({', '.join(result.reason_codes)}): {result.detail}", file=sys.stderr)
    else:
        print("\n".join([_headline(result), *_sentences(result).values()]))
    return 1 if isinstance(result, Rejected) else 0


def _input_of(document: Any) -> dict[str, Any]:
    """The input itself, or the one in a scenario; anything else is an empty one, which says what it lacks."""
    if not isinstance(document, dict):
        return {}
    fields = cast("dict[str, Any]", document)
    inner = fields.get("input", fields)
    return cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}


def _headline(result: Allocated) -> str:
    given = sum(leaf.allocated_kw for leaf in result.leaves)
    asked = sum(leaf.requested_kw for leaf in result.leaves)
    reasons = f" ({', '.join(result.reason_codes)})" if result.reason_codes else ""
    return f"{result.outcome.lower()}: {given:.1f} of {asked:.1f} kW{reasons}"


def _sentences(result: Allocated | Rejected) -> dict[str, str]:
    return {} if isinstance(result, Rejected) else {leaf.leaf_id: explain(result, leaf.leaf_id) for leaf in result.leaves}
