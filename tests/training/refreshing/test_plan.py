"""refresh's file and its times; what the gate makes of measurements that can't be compared."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.models import ROOT
from training.__main__ import main
from training.errors import TrainingError
from training.evaluation.record import Figure, ModelResult, Order, RankerResult
from training.refreshing.gate import Traffic, better, usual
from training.refreshing.options import Gate, Plan, Windows, windows

FILES = [ROOT / "configs" / "refresh.yaml", ROOT / "examples" / "site" / "refresh.yaml"]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_our_files_can_be_read(file: Path) -> None:
    given = yaml.safe_load(file.read_text(encoding="utf-8"))
    if file == FILES[1]:  # the site adds this
        given["adapters"] = "adapters"
    plan = Plan.model_validate(given)
    assert plan.finetune is not None
    assert (ROOT / plan.finetune).is_file()


def test_defaults_are_those_of_our_file() -> None:
    given = yaml.safe_load(FILES[0].read_text(encoding="utf-8"))
    least = {name: given[name] for name in ("base", "adapters")}
    assert Plan.model_validate(given) == Plan.model_validate(least)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: b\nadapters: a\nshare: 0.1", "share: Extra inputs are not permitted"),
        ("base: b", "adapters: Field required"),
        ("base: b\nadapters: a\nexperiment: {share: 2}", "experiment.share: Input should be less"),
        ("base: b\nadapters: a\nname: a/b", "name: String should match pattern"),
        ("base: [", "is not YAML"),
        ("base: b\nadapters: a\ngate: {traffic: 1}", "gate.traffic: Input should be greater"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "refresh.yaml"
    file.write_text(text)
    assert main(["refresh", str(file), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file}")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_places_are_checked_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "refresh.yaml"
    file.write_text(f"base: {tmp_path / 'none'}\nadapters: {tmp_path}\nurl: http://127.0.0.1:9")
    monkeypatch.delenv("FRONTPAGE_STORE", raising=False)
    for store, message in ((None, "set FRONTPAGE_STORE"), ("sqlite:///x", "base: there is no")):
        if store:
            monkeypatch.setenv("FRONTPAGE_STORE", store)
        assert main(["refresh", str(file), "--out", str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err
    file.write_text(
        f"base: {tmp_path}\nadapters: {tmp_path}\nencoder: null\nfinetune: null\nurl: http://127.0.0.1:9"
    )
    assert main(["refresh", str(file), "--out", str(tmp_path / "out")]) == 1
    assert "http://127.0.0.1:9" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_windows_end_where_clicks_are_in() -> None:
    plan = Plan(base=Path(), adapters=Path(), days=2, click_hours=1, fit_hours=6, test_hours=4)
    hour = 3600
    found = windows(plan, 100 * hour)
    assert found == Windows(start=51 * hour, fit=89 * hour, test=95 * hour, end=99 * hour)
    with pytest.raises(TrainingError, match="days: must be longer"):
        windows(plan.model_copy(update={"days": 0.4}), 100 * hour)


def result(name: str) -> ModelResult:
    figures = {"auc": Figure(value=0.6, low=0.5, high=0.7)}
    known: Any = {"name": name, "figures": figures, "ranker": None, "order": None}
    return ModelResult.model_construct(**known)


def test_a_ranker_that_cannot_be_measured_stops_the_gate() -> None:
    """Else the new model's ranker would be compared with the served language model alone."""
    change = {"auc": Figure(value=0.1, low=0.05, high=0.15)}
    order = Order(by_ranker=True, figures=change, differences=change, ece=0.01)
    new = result("new").model_copy(update={"order": order})
    served = result("served").model_copy(
        update={"ranker": RankerResult(refused="it learned from these")}
    )
    assert better(Gate(), result("served"), new).passed
    check = better(Gate(), served, new)
    assert not check.passed
    assert "the ranker of served can't be measured: it learned from these" in check.text


def test_traffic_counts_both_ways() -> None:
    for newest, before, passed in (
        (0.04, 0.03, True),
        (0.16, 0.04, False),
        (0.01, 0.04, False),
        (0.0, 0.04, False),
    ):
        assert usual(Gate(), Traffic(newest, before)).passed is passed
