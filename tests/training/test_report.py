"""The page from an evaluation's file: whole, escaped, and asking nothing of the network."""

import copy
import json
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main
from training.errors import TrainingError
from training.evaluation.page import read_log

EVIL = "<script>alert(1)</script> & $x^2$ \"quoted\" 'title'"
VOID = {"meta", "br", "col", "link", "img", "hr", "use", "path"}


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> Any:
    return {"value": value, "low": low, "high": high}


def model(name: str, auc: float, **more: Any) -> dict[str, Any]:
    error = {
        "impression": "7",
        "story": "N1",
        "title": EVIL,
        "category": "<b>news</b>",
        "probability": 0.0123,
        "history": [f"{EVIL} {name}"],
        "history_length": 4,
    }
    return {
        "name": name,
        "folder": None,
        "backend": "transformers",
        "profile": None,
        "figures": {
            "auc": estimate(auc, auc - 0.02, auc + 0.02),
            "log_loss": estimate(1 - auc, 0.1, 0.9),
            "pair_accuracy": estimate(0.5, None, None),
        },
        "differences": {},
        "scoring": {"seconds": 2.0, "candidates_per_s": 123.4},
        "speed": [
            {
                "task": "score",
                "mode": "batch",
                "size": 8,
                "samples_per_s": 98.76,
                "latency_p50_ms": 81.2,
                "latency_p95_ms": 95.1,
                "calls": 5,
            }
        ],
        "roc": {
            "false_positive_rate": [0.0, 0.4, 1.0],
            "true_positive_rate": [0.0, 0.6, 1.0],
            "area": 0.6,
        },
        "calibration": [
            {"count": 5, "predicted": 0.02, "observed": 0.0},
            {"count": 5, "predicted": 0.1, "observed": 0.2},
        ],
        "ece": 0.06,
        "histogram": {
            "log_odds_edges": [-2.0, -1.0, 0.0, 1.0],
            "clicked": [0.0, 0.5, 0.5],
            "not_clicked": [0.5, 0.5, 0.0],
        },
        "errors": {"missed_clicks": [error], "false_hopes": [error]},
        "texts": [{"text": EVIL, "count": 3}],
        **more,
    }


def evaluation(*models: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": {
            "split": "val",
            "data_hash": "abc",
            "impressions": 1234,
            "ranked": 1200,
            "only_clicks": 4,
            "only_non_clicks": 30,
            "candidates": 5000,
            "clicks": 200,
            "pairs": 1200,
            "text_pairs": 2,
        },
        "options": {"backend": "transformers", "data": "data/mind"},
        "run": {
            "time": "2019-11-15T00:00:00+00:00",
            "commit": None,
            "versions": {"torch": "2.13.0"},
            "hardware": {"device": "cpu", "threads": 2},
        },
        "models": list(models),
    }


def write(folder: Path, found: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(found))
    return folder


def report(*arguments: object) -> str:
    assert main(["report", *map(str, arguments)]) == 0
    return (Path(str(arguments[0])) / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Elements and texts; fails where an element is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    @property
    def tags(self) -> Iterable[str]:
        return {tag for tag, _ in self.elements}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    change = {"auc": estimate(0.1, 0.05, 0.15)}
    return write(
        tmp_path / "eval",
        evaluation(model("base", 0.52), model(f"tuned {EVIL}", 0.62, differences=change)),
    )


def test_titles_and_names_are_text_and_nothing_else(folder: Path) -> None:
    page = Page(report(folder))
    assert not {"script", "b", "img", "iframe"} & set(page.tags)
    assert page.texts.count(EVIL) == 6  # a title in two errors of two models, and two answers
    assert f"tuned {EVIL}" in page.texts
    assert "<b>news</b>, N1, impression 7" in page.texts


def test_the_page_needs_no_network(folder: Path) -> None:
    html = report(folder)
    for tag, attributes in Page(html).elements:
        assert tag not in ("link", "script", "img", "iframe", "object")
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href"):
                assert value
                assert value.startswith("#"), (tag, name, value)
    assert not re.search(r"@import|url\((?!#)", html)


def test_pictures_do_not_share_ids_that_they_use(folder: Path) -> None:
    html = report(folder)
    used = set(re.findall(r"url\(#([^)]+)\)", html)) | set(re.findall(r'href="#([^"]+)"', html))
    assert used
    for name in used:
        drawn = re.findall(rf'<(\w+)[^>]* id="{re.escape(name)}"[^>]*>', html)
        assert len(drawn) == 1, name


def test_figures_with_intervals_differences_and_the_best(folder: Path) -> None:
    html = report(folder)
    texts = Page(html).texts
    for text in ("0.520", "0.500 to 0.540", "0.620", "+0.100", "+0.050 to +0.150"):
        assert text in texts
    assert re.search(r'<div class="best">0\.620', html)
    assert re.search(r'<div class="best">0\.380', html)  # of log-loss the lowest
    assert not re.search(r'<div class="best">0\.520', html)
    assert "50.0 %" in texts
    assert any("1,200 impressions with clicks and non-clicks" in " ".join(t.split()) for t in texts)


def test_what_matters_comes_first(folder: Path) -> None:
    texts = [text for text in Page(report(folder)).texts if text]
    name = "Evaluation on mind (val), 2019-11-15"
    line = f"tuned {EVIL} orders better than base: AUC 0.62 against 0.52, +0.10 [0.05, 0.15]."
    assert texts.index(name) + 1 == texts.index(line)
    assert any(text.startswith(f"{name}: base, tuned") for text in texts)
    assert texts.index(line) < texts.index("Calibration") < texts.index("Quality")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (estimate(-0.1, -0.15, -0.05), "orders worse than base: AUC 0.62 against 0.52, −0.10 [−0"),
        (estimate(0.1, -0.05, 0.25), "is not known to order better or worse than base: AUC 0.62"),
        (estimate(0.1), "is not known to order better or worse than base: AUC 0.62"),
        (None, "is not known to order better or worse than base: AUC 0.62 against 0.52."),
    ],
)
def test_the_first_line_claims_no_more_than_is_known(
    change: Any, said: str, tmp_path: Path
) -> None:
    differences = {} if change is None else {"auc": change}
    found = evaluation(model("base", 0.52), model("new", 0.62, differences=differences))
    assert f"new {said}" in report(write(tmp_path / "eval", found))


def test_one_model_and_one_without_an_auc(tmp_path: Path) -> None:
    alone = write(tmp_path / "alone", evaluation(model("a", 0.5)))
    assert "a has an AUC of 0.50 [0.48, 0.52]." in report(alone)
    none = write(tmp_path / "none", evaluation(model("a", 0.5, figures={"auc": estimate(None)})))
    assert 'class="headline"' not in report(none)


def test_speeds_and_pictures(folder: Path) -> None:
    page = Page(report(folder))
    for text in ("by batch", "98.8", "81", "95"):
        assert text in page.texts
    labels = [attributes.get("aria-label") for tag, attributes in page.elements if tag == "svg"]
    assert labels == [
        "AUC of each model with its interval",
        "ROC curves over all candidates",
        "Calibration curve of base",
        f"Calibration curve of tuned {EVIL}",
        "Scores of base, clicked and not clicked",
        f"Scores of tuned {EVIL}, clicked and not clicked",
    ]


def test_losses_are_drawn_from_the_models_folder(tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    trained.mkdir()
    lines = [
        {"current_steps": 1, "loss": 2.0},
        {"current_steps": 2, "loss": 1.0},
        {"current_steps": 2, "eval_loss": 1.5},
    ]
    (trained / "trainer_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = write(tmp_path / "eval", evaluation(model("a", 0.5, folder=str(trained))))
    html = report(folder)
    assert 'aria-label="Loss while training a"' in html
    assert "validation" in html
    (trained / "trainer_log.jsonl").unlink()
    assert "Loss while training" not in report(folder)


def test_a_report_of_two_evaluations_tells_them_apart(tmp_path: Path) -> None:
    local = write(tmp_path / "local", evaluation(model("a", 0.5)))
    http = write(tmp_path / "http", evaluation(model("a", 0.5, backend="http")))
    texts = Page(report(local, http)).texts
    assert {"a (transformers)", "a (http)"} <= set(texts)


def test_a_page_of_the_same_evaluation_is_the_same(folder: Path) -> None:
    assert report(folder) == report(folder)


def test_the_page_goes_where_it_is_asked_to(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "page.html"
    assert main(["report", str(folder), "--output", str(output)]) == 0
    assert output.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [file.name for file in output.parent.iterdir()] == ["page.html"]


@pytest.mark.parametrize("end", ['{"current_st', "\0\0\0", '{"loss": 1.0, "x"'])
def test_a_log_that_a_kill_cut_short_is_drawn_without_its_last_line(
    end: str, tmp_path: Path
) -> None:
    whole = '{"current_steps": 1, "loss": 0.7}\n{"current_steps": 2, "loss": 0.6}\n'
    file = tmp_path / "trainer_log.jsonl"
    file.write_text(whole + end)
    assert [line["loss"] for line in read_log(file)] == [0.7, 0.6]
    file.write_text(end)
    assert read_log(file) == []
    file.write_text(f"{end}\n{whole}")
    with pytest.raises(TrainingError, match="is not a training log"):
        read_log(file)


def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert "evaluation.json does not exist" in capsys.readouterr().err
    write(tmp_path, [1])
    assert main(["report", str(tmp_path)]) == 1
    assert "is not what evaluate writes" in capsys.readouterr().err
    write(tmp_path, evaluation())
    assert main(["report", str(tmp_path)]) == 1
    assert "holds no model" in capsys.readouterr().err


def test_different_data_do_not_share_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluation(model("a", 0.5))
    other = copy.deepcopy(found)
    other["data"]["data_hash"] = "def"
    folders = [write(tmp_path / "one", found), write(tmp_path / "two", other)]
    assert main(["report", *map(str, folders)]) == 1
    assert "differ in data_hash" in capsys.readouterr().err
