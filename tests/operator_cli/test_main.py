"""The `depotgrid` command: what it prints, and with which status it ends."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from operator_cli.main import run
from operator_cli.places import RunFile, read_run_file, write_run_file
from operator_cli.up import read_example

_EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
_EXAMPLE = str(_EXAMPLES / "depot-1.yaml")


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction] - by its name
    for name in ("DATABASE_URL", "API_URL", "MQTT_URL", "MQTT_QOS"):
        monkeypatch.delenv(f"DEPOTGRID_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nope"], "nope"),
        (["site", "nope"], "nope"),
        (["site", "import"], "--file"),
        (["site", "import", _EXAMPLE, "--nope"], "--nope"),
        (["site", "export"], "--depot"),
        (["up", "--port", "x"], "--port"),
        (["up", "--port", "70000"], "--port"),
        (["up", "--mqtt-url", "http://x"], "--mqtt-url"),
        (["up", "--bridge"], "--kafka"),
        (["db", "migrate", "--database-url", "mysql://x/y"], "--database-url"),
        (["db", "check"], "DEPOTGRID_DATABASE_URL"),
        (["site", "export", "d"], "DEPOTGRID_DATABASE_URL"),
        (["dead-letter", "list"], "DEPOTGRID_API_URL"),
        (["dead-letter", "list", "--api-url", "127.0.0.1"], "http://"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line_that_names_it(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("depotgrid: ")
    assert err.count("\n") == 1
    assert named in err


def test_a_wrong_setting_ends_with_2_and_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEPOTGRID_MQTT_QOS", "0")
    assert run(["config"]) == 2
    assert capsys.readouterr().err.startswith("depotgrid: DEPOTGRID_MQTT_QOS: ")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["site", "import", "--help"], ["up", "--help"]])
def test_help_is_no_failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    assert "Usage: depotgrid" in capsys.readouterr().out


def test_a_database_that_does_not_answer_is_named_with_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://me:secret@127.0.0.1:1/db"
    assert run(["site", "export", "d", "--database-url", url]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "127.0.0.1:1/db" in err
    assert "secret" not in err


def test_a_site_file_with_faults_is_refused_with_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("depot: {depot_id: d, name: D, timezone: UTC, nme: x}\ncircuits: [{circuit_id: c, name: C, rating_kw: -1}]\n")
    assert run(["site", "import", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{file}:/depot/nme " in err
    assert "UNKNOWN_FIELD" in err
    assert f"{file}:/circuits/0/rating_kw " in err
    assert err.endswith("2 faults, nothing was stored\n")
    assert run(["site", "import", str(file), "--json"]) == 1
    assert [error["pointer"] for error in json.loads(capsys.readouterr().out)["errors"]] == ["/depot/nme", "/circuits/0/rating_kw"]


def test_a_site_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["site", "import", "nowhere.yaml"]) == 1
    assert capsys.readouterr().err == "depotgrid: nowhere.yaml: No such file or directory; give the path of a site file\n"


def test_what_is_exported_imports_again_without_a_change(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--database-url", database_url]
    assert run(["site", "import", _EXAMPLE, *given]) == 0
    assert "depot depot-1: microgrid " in capsys.readouterr().out
    for option in ([], ["--json"]):
        assert run(["site", "export", "depot-1", *option, *given]) == 0
        file = tmp_path / "again"
        file.write_text(capsys.readouterr().out)
        assert run(["site", "import", str(file), "--json", "--prune", *given]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["created"], report["changed"], report["removed"]) == ({}, {}, {})
        assert report["left"]["device"] == ["ctrl-1"]


def test_a_depot_can_be_loaded_without_a_microgrid(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["site", "import", _EXAMPLE, "--no-provision", "--database-url", database_url]) == 0
    assert "depot depot-1: no microgrid" in capsys.readouterr().out


def test_a_depot_that_is_not_there_cannot_be_exported(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["site", "export", "nope", "--database-url", database_url]) == 1
    assert "no depot is called 'nope'" in capsys.readouterr().err


def test_migrations_and_their_check(empty_database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--database-url", empty_database_url]
    assert run(["db", "check", *given]) == 1
    assert "depotgrid db migrate" in capsys.readouterr().err
    assert run(["site", "export", "d", *given]) == 1
    assert "depotgrid db migrate" in capsys.readouterr().err
    assert run(["db", "migrate", *given]) == 0
    capsys.readouterr()
    assert run(["db", "check", "--json", *given]) == 0
    assert json.loads(capsys.readouterr().out) == {"items": []}


def test_settings_are_shown_with_their_source_and_without_passwords(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEPOTGRID_DATABASE_URL", "postgresql://me:secret@db/depotgrid")
    assert run(["config", "--json"]) == 0
    out = capsys.readouterr().out
    assert "secret" not in out
    row = next(row for row in json.loads(out)["items"] if row["name"] == "DEPOTGRID_DATABASE_URL")
    assert (row["value"], row["source"]) == ("postgresql://me:***@db/depotgrid", "environment")


class _Api(BaseHTTPRequestHandler):
    """A read API that has three letters, two on its first page."""

    asked: ClassVar[list[dict[str, list[str]]]] = []

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        self.asked.append(query)
        status, answer = 200, self._answer(parts.path, query)
        if answer is None:
            status, answer = 404, {"code": "DEAD_LETTER_NOT_FOUND", "detail": "there is no dead letter x"}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, path: str, query: dict[str, list[str]]) -> dict[str, object] | None:
        if path == "/api/dead-letter/a":
            return {"dead_letter_id": "a", "body": "{not json"}
        if path != "/api/dead-letter":
            return None
        if "group_by" in query:
            group: dict[str, object] = {
                "group": {"reason_code": "X"},
                "count": 3,
                "first_at": "t",
                "last_at": "t",
                "sample_id": "a",
            }
            return {"items": [group], "next": None}
        names = ("last_failed_at", "reason_code", "status", "attempts", "gateway_id", "device_id", "detail")
        ids = ["c"] if "cursor" in query else ["a", "b"]
        letters = [{**dict.fromkeys(names, "-"), "dead_letter_id": one} for one in ids]
        return {"items": letters, "next": None if "cursor" in query else "more"}

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def api() -> Generator[str]:
    _Api.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), _Api)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    serving.join()


def test_dead_letters_are_listed_over_all_pages_with_the_filters(api: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead-letter", "list", "--json", "--reason-code", "X", "--api-url", api]) == 0
    assert [one["dead_letter_id"] for one in json.loads(capsys.readouterr().out)["items"]] == ["a", "b", "c"]
    assert _Api.asked == [
        {"reason_code": ["X"], "limit": ["50"]},
        {"reason_code": ["X"], "limit": ["48"], "cursor": ["more"]},
    ]


def test_dead_letters_are_listed_as_far_as_the_limit(api: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead-letter", "list", "--limit", "2", "--api-url", api]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert len(_Api.asked) == 1


def test_dead_letters_are_counted_by_cause_and_shown(api: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead-letter", "group", "--api-url", api]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["X", "3", "t", "t", "a"]
    assert run(["dead-letter", "show", "a", "--api-url", api]) == 0
    assert capsys.readouterr().out.endswith("\n{not json\n")


def test_a_letter_that_is_not_there_is_told_in_the_apis_words(api: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead-letter", "show", "x/y", "--api-url", api]) == 1
    assert capsys.readouterr().err == "depotgrid: DEAD_LETTER_NOT_FOUND: there is no dead letter x\n"


def test_an_api_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead-letter", "list", "--api-url", "http://127.0.0.1:1"]) == 1
    assert "http://127.0.0.1:1 does not answer" in capsys.readouterr().err


def test_commands_find_what_up_has_written(api: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:

    write_run_file(tmp_path, RunFile(os.getpid(), api, "postgresql://x/y", "mqtt://x"))
    assert (tmp_path / "run.json").stat().st_mode & 0o777 == 0o600
    assert run(["dead-letter", "group", "--json", "--data-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["count"] == 3


@pytest.mark.parametrize("text", ["", "{}", '{"pid": 1, "x": 2}', "[]"])
def test_a_run_file_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert read_run_file(tmp_path) is None


def test_a_run_file_of_an_up_that_died_is_none(tmp_path: Path) -> None:
    write_run_file(tmp_path, RunFile(2**22 + 1, "http://x", "postgresql://x/y", "mqtt://x"))
    assert read_run_file(tmp_path) is None


@pytest.mark.parametrize("name", sorted(path.name for path in _EXAMPLES.glob("*.yaml")))
def test_examples_travel_with_the_package(name: str) -> None:
    assert read_example(name) == (_EXAMPLES / name).read_bytes()
