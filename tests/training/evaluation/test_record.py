"""evaluation.json as earlier versions wrote it: read whole, and written again to the byte."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import RECORDS
from training.__main__ import main
from training.errors import TrainingError
from training.evaluation.record import Evaluation


def test_what_is_read_is_written_again(tmp_path: Path) -> None:
    Evaluation.read(RECORDS).write(tmp_path)
    assert (tmp_path / "evaluation.json").read_bytes() == (RECORDS / "evaluation.json").read_bytes()


def test_fields_have_their_meaning() -> None:
    found = Evaluation.read(RECORDS)
    base, news = found.models
    assert (base.name, base.differences, news.backend) == ("base", {}, "transformers")
    change = news.differences["auc"].value
    assert change == pytest.approx(news.figures["auc"].value - base.figures["auc"].value)  # type: ignore[operator]
    assert found.options["limit"] == found.data.impressions == 10
    assert [row.size for row in news.speed] == [1, 2, 1, 2]
    assert news.profile is not None
    assert news.profile.layout.name == "compact"


def test_a_report_of_an_earlier_file(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(RECORDS), "--output", str(page)]) == 0
    assert page.read_text("utf-8").count("<figure") == 6  # AUC; ROC; two of calibration and scores


def without(known: Any, *path: Any) -> Any:
    """The same, with the part at the end of the path left out."""
    part = known
    for step in path[:-1]:
        part = part[step]
    del part[path[-1]]
    return known


@pytest.mark.parametrize("path", [("run",), ("models", 0, "ece"), ("models", 1, "roc", "area")])
def test_what_evaluate_does_not_write_is_named(path: tuple[Any, ...], tmp_path: Path) -> None:
    known = without(json.loads((RECORDS / "evaluation.json").read_bytes()), *path)
    (tmp_path / "evaluation.json").write_text(json.dumps(known))
    with pytest.raises(TrainingError, match="is not what evaluate writes: run evaluate again"):
        Evaluation.read(tmp_path)
