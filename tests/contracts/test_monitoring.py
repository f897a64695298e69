"""Alert rules and dashboard speak of what the processes really count, and each alert has been seen to go off."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from service_runtime.metrics import BridgeMetrics, IngestMetrics, RelayMetrics
from service_runtime.request_watch import HttpMetrics, StreamMetrics

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
SELECTOR = re.compile(r"\b(depotgrid_[a-z_]+|up)\b(?:\{([^}]*)\})?")
LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
GROUPING = re.compile(r"\bby \(([^)]*)\)")
OF_THE_SCRAPE = {"job", "instance", "le"}


@cache
def counted() -> dict[str, set[str]]:
    """Every sample name that a process of ours exposes, with its labels."""
    names: dict[str, set[str]] = {"up": set()}
    for make in (IngestMetrics, RelayMetrics, BridgeMetrics, HttpMetrics, StreamMetrics):
        registry = CollectorRegistry()
        metrics = make(registry)
        for collector in vars(metrics).values():
            for family in collector.collect():
                suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}[family.type]
                for suffix in suffixes:
                    labels = getattr(collector, "_labelnames", getattr(family, "_labelnames", ()))
                    names.setdefault(family.name + suffix, set()).update(labels)
    return names


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """Every expression by where it stands."""
    found = {rule["alert"]: rule["expr"] for rule in rules()}
    for panel in json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


@pytest.mark.parametrize("where", expressions())
def test_an_expression_names_only_metrics_and_labels_that_a_process_counts(where: str) -> None:
    expression = expressions()[where]
    selectors = SELECTOR.findall(expression)
    assert selectors
    labels = set(OF_THE_SCRAPE)
    for name, matchers in selectors:
        assert name in counted(), f"{where}: nothing counts {name}"
        labels |= counted()[name]
        assert set(LABEL.findall(matchers)) <= OF_THE_SCRAPE | counted()[name], f"{where}: {name} has no such label"
    grouped = {label.strip() for group in GROUPING.findall(expression) for label in group.split(",")}
    assert grouped <= labels, f"{where}: grouped by what none of its metrics has"


def test_every_alert_has_been_set_off_by_a_test_and_says_what_to_do() -> None:
    tests = yaml.safe_load((MONITORING / "alerts.test.yaml").read_text(encoding="utf-8"))["tests"]
    set_off = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert {rule["alert"] for rule in rules()} == set_off
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_alert_rules_pass_their_own_tests() -> None:
    found = subprocess.run([ROOT / "deploy/dev/promtool"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("promtool is not on this machine")
    tool = ROOT / found.stdout.strip()
    ran = subprocess.run([tool, "test", "rules", "alerts.test.yaml"], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_panel_says_what_it_shows_in_which_unit() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    shown = [panel for panel in panels if panel["type"] != "row"]
    assert all(panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in shown)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


def test_the_guide_lists_every_alert_with_its_severity() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [(rule["alert"], rule["labels"]["severity"]) for rule in rules()]
