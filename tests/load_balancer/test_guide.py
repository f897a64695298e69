"""The guide tells the truth: its examples print what it says, its pictures show what the balancer answers."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from bench.balancing_pictures import FOLDER, pictures

GUIDE = Path(__file__).parents[2] / "docs" / "load-balancing.md"
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def test_every_example_prints_what_the_guide_says() -> None:
    assert len(EXAMPLES) == GUIDE.read_text(encoding="utf-8").count("```python\n") >= 8
    names: dict[str, Any] = {}
    for code, said in EXAMPLES:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(GUIDE), "exec"), names)
        assert printed.getvalue() == said


@pytest.mark.parametrize(("name", "svg"), pictures().items())
def test_a_picture_is_what_the_balancer_answers_today(name: str, svg: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == svg
    assert f"images/{name}" in GUIDE.read_text(encoding="utf-8")
