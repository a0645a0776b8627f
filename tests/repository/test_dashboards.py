"""Prometheus's rules and Grafana's dashboards name only what is there, and do what they say."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute
from prometheus_client import REGISTRY, Histogram
from prometheus_client.metrics import MetricWrapperBase

from app.http.routes import feedback, openai, operations, predict, rank
from app.observability import metrics
from tests.support.models import ROOT

MONITORING = ROOT / "deploy" / "monitoring"
PROMTOOL = ROOT / ".venv" / "bin" / "promtool"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
GROUPS = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"]]
RUNBOOK = "docs/operations/dashboards-and-alerts.md"
ROUTES = {
    route.path
    for part in (feedback, openai, operations, predict, rank)
    for route in part.router.routes
    if isinstance(route, APIRoute)
}

SELECTOR = re.compile(r"\b((?:frontpage_|vllm:|process_|up\b)\w*)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
TARGET_LABELS = {"job", "instance"}  # Prometheus adds them
OURS = [found for found in vars(metrics).values() if isinstance(found, MetricWrapperBase)]
ENDS = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


def panels() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{file.stem}: {panel['title']}", panel)
        for file in DASHBOARDS
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]
    ]


def expressions() -> dict[str, str]:
    """Of alerts and dashboards, by where they stand; Grafana's variables as it would fill them."""
    found = {rule["alert"]: rule["expr"] for rule in ALERTS}
    for name, panel in panels():
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "5m")
            found[f"{name} {target['refId']}"] = re.sub(r"\$\w+", ".*", text)
    return found


EXPRESSIONS = expressions()
each_expression = pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)


def our_series() -> dict[str, MetricWrapperBase]:
    """Each series' name as Prometheus stores it → its metric."""
    return {
        family.name + end: metric
        for metric in OURS
        for family in metric.describe()
        for end in ENDS[family.type]
    }


def vllm_series() -> dict[str, set[str]]:
    """The same of vLLM's stat logger, read from its source → labels."""
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    file = Path(spec.submodule_search_locations[0]) / "v1" / "metrics" / "loggers.py"
    made = re.compile(
        r'self\._(gauge|counter|histogram)_cls\(\s*name="(vllm:\w+)"(?:(?!_cls\().)*?'
        r"labelnames=labelnames( \+ \[([^\]]*)\])?",
        re.DOTALL,
    )
    return {
        name + end: {"model_name", "engine", *re.findall(r"\w+", more)}
        | ({"le"} if end == "_bucket" else set())
        for kind, name, _, more in made.findall(file.read_text(encoding="utf-8"))
        for end in ENDS[kind]
    }


OUR_SERIES, VLLM_SERIES = our_series(), vllm_series()


def labels_of(series: str) -> set[str]:
    if series in OUR_SERIES:
        metric = OUR_SERIES[series]
        return {*metric._labelnames, *(["le"] if series.endswith("_bucket") else [])}
    if series in VLLM_SERIES:
        return VLLM_SERIES[series]
    process = {sample.name for family in REGISTRY.collect() for sample in family.samples}
    assert series == "up" or series in process, f"no series {series}"
    return set()


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    for series, matchers in SELECTOR.findall(expression):
        yield series, MATCHER.findall(matchers)


def allowed(metric: MetricWrapperBase, label: str) -> set[str]:
    """The values that a label can have, where they are known."""
    if label == "route":
        return ROUTES
    if label in ("reason", "outcome", "step", "known"):  # the metric's description lists them
        return set(re.findall(r"\w+", metric._documentation))
    if label == "clicked":
        return {"true", "false"}
    if label == "le":
        assert isinstance(metric, Histogram)
        return {f"{bound:g}" for bound in metric._upper_bounds}
    return set()


@each_expression
def test_series_and_labels_are_there(expression: str) -> None:
    known = set(TARGET_LABELS)
    assert list(selectors(expression))
    for series, matchers in selectors(expression):
        labels = labels_of(series) | TARGET_LABELS
        assert {label for label, _, _ in matchers} <= labels, series
        known |= labels
    for grouping in re.findall(r"\bby \(([^)]*)\)", expression):
        assert set(re.findall(r"\w+", grouping)) <= known


@each_expression
def test_values_of_labels_can_occur(expression: str) -> None:
    """A rule on a reason that nobody counts would never fire."""
    for series, matchers in selectors(expression):
        for label, operator, value in matchers:
            values = allowed(OUR_SERIES[series], label) if series in OUR_SERIES else set()
            for one in value.split("|") if "~" in operator else [value]:
                assert not values or any(re.fullmatch(one, real) for real in values), (label, one)


@pytest.mark.parametrize(("name", "panel"), panels(), ids=[name for name, _ in panels()])
def test_legends_name_labels_that_are_left(name: str, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
        left = set(re.findall(r"\w+", grouped[0])) if grouped else TARGET_LABELS
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left, name


def test_thresholds_on_quantiles_are_bounds_of_the_histogram() -> None:
    """Between two bounds a quantile is a guess."""
    quantiles = [rule for rule in ALERTS if "histogram_quantile" in rule["expr"]]
    assert quantiles
    for rule in quantiles:
        series, _ = next(selectors(rule["expr"]))
        threshold = rule["expr"].rsplit(">", 1)[1].strip()
        assert threshold in allowed(OUR_SERIES[series], "le"), rule["alert"]


@pytest.mark.parametrize(("name", "panel"), panels(), ids=[name for name, _ in panels()])
def test_stats_forget_what_is_gone(name: str, panel: dict[str, Any]) -> None:
    """Over the whole range, Grafana would show the last value of an adapter unloaded long ago."""
    if panel["type"] == "stat":
        assert all(target["instant"] for target in panel["targets"]), name


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_dashboards_are_whole(file: Path) -> None:
    dashboard = json.loads(file.read_text(encoding="utf-8"))
    assert dashboard["uid"] == f"frontpage-{file.stem}"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(places) == len(set(places))
    provisioned = yaml.safe_load(
        (MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"][0]["uid"]
    used = re.findall(r'"datasource": \{[^}]*"uid": "(.*?)"', file.read_text())
    assert set(used) == {provisioned}
    assert len(used) == len(ids) + len(dashboard["templating"]["list"])


def test_there_are_three_dashboards() -> None:
    assert [file.stem for file in DASHBOARDS] == ["engine", "models", "service"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_each_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    text = (ROOT / RUNBOOK).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert rule["alert"] in headings
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"{RUNBOOK}#{rule['alert'].lower()}"
    assert rule["labels"]["severity"] in ("critical", "warning")


def test_each_alert_has_a_test_in_which_it_fires() -> None:
    tested = set(re.findall(r'alertname="(\w+)"', (MONITORING / "alerts_test.yml").read_text()))
    assert tested == {rule["alert"] for rule in ALERTS}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A copy of Prometheus's files, with a key where they look for one."""
    for name in ("prometheus.yml", "alerts.yml", "alerts_test.yml"):
        shutil.copy(MONITORING / name, tmp_path)
    config, key = tmp_path / "prometheus.yml", tmp_path / "frontpage_key"
    key.write_text("secret")
    text = config.read_text()
    assert "/run/secrets/frontpage_key" in text
    config.write_text(text.replace("/run/secrets/frontpage_key", str(key)))
    return tmp_path


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)


def test_promtool_accepts_the_files(rules: Path) -> None:
    for arguments in (("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")):
        done = promtool(*arguments[:2], rules / arguments[2])
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "command"),
    [
        ('up{job="frontpage"} == 0', 'up{job="frontpage" == 0', "check"),
        ('up{job="frontpage"} == 0', 'up{job="frontpage"} == 2', "test"),  # never fires
        ("engine_up == 0", "engine_up >= 0", "test"),  # fires for the good one too
    ],
)
def test_promtool_finds_a_broken_rule(rules: Path, old: str, new: str, command: str) -> None:
    file = rules / "alerts.yml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    assert promtool("check", "rules", file).returncode == (command == "check")
    assert promtool("test", "rules", rules / "alerts_test.yml").returncode == 1


def test_promtool_parses_every_expression_of_the_dashboards(tmp_path: Path) -> None:
    rules = [
        {"record": f"dashboards:{number}", "expr": expression}
        for number, expression in enumerate(EXPRESSIONS.values())
    ]
    file = tmp_path / "rules.yml"
    for broken, code in (([], 0), ([{"record": "broken", "expr": "sum by ("}], 1)):
        file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules + broken}]}))
        done = promtool("check", "rules", file)
        assert done.returncode == code, done.stdout + done.stderr


def test_panels_of_a_quiet_service_are_neither_empty_nor_absurd(tmp_path: Path) -> None:
    """No error was ever counted, and no event has come."""
    errors = EXPRESSIONS["service: Internal errors A"]
    age = EXPRESSIONS["service: Live figures: age of the newest event A"]
    newest = "frontpage_live_newest_event_timestamp_seconds"
    test = {
        "interval": "1m",
        "input_series": [
            {"series": 'frontpage_requests_total{status="200", instance="a"}', "values": "0+60x30"},
            {"series": newest + '{job="frontpage", instance="none"}', "values": "0x30"},
            {"series": newest + '{job="frontpage", instance="one"}', "values": "600x30"},
        ],
        "promql_expr_test": [
            {"expr": errors, "eval_time": "20m", "exp_samples": [{"labels": "{}", "value": 0}]},
            {
                "expr": age,
                "eval_time": "20m",
                "exp_samples": [{"labels": '{job="frontpage", instance="one"}', "value": 600}],
            },
        ],
    }
    file = tmp_path / "quiet.yml"
    file.write_text(yaml.safe_dump({"tests": [test]}))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
