"""Draw evaluations as one HTML page, which holds all it needs and opens without a network.

  python -m training report runs/eval --output runs/eval/report.html
  python -m training report runs/eval runs/http

Each folder is one that `evaluate` wrote; several must be of the same impressions. Loss curves come
from trainer_log.jsonl in each model's folder, where there is one. The page shows titles of the data
set: mind the data's licence before passing it on.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from training.errors import TrainingError
from training.evaluate import RESULT_FILE
from training.folders import LOG_FILE, write_whole

TEMPLATE = "report.html.jinja"
SAME = ("data_hash", "split", "impressions", "candidates")


class Figure(NamedTuple):
    """A line of the table. percent: a share. best: 1 the highest, -1 the lowest."""

    name: str
    title: str
    note: str
    percent: bool
    best: int


FIGURES = (
    Figure("auc", "AUC", "mean over impressions", False, 1),
    Figure("mrr", "MRR", "mean over impressions", False, 1),
    Figure("ndcg_at_5", "nDCG@5", "mean over impressions", False, 1),
    Figure("ndcg_at_10", "nDCG@10", "mean over impressions", False, 1),
    Figure("log_loss", "log-loss", "in nats, over candidates", False, -1),
    Figure("ece", "ECE", "calibration error", False, -1),
    Figure("pair_order", "pairs in order", "the click scores higher", True, 1),
    Figure("pair_accuracy", "accuracy, label", "on balanced pairs", True, 1),
    Figure("text_accuracy", "accuracy, text", "on balanced pairs", True, 1),
    Figure("unknown", "Unknown, label", "over candidates", True, -1),
    Figure("text_unknown", "Unknown, text", "counted as wrong above", True, -1),
    Figure("text_agreement", "text is the label", "on the pairs asked in text", True, 1),
    Figure("sure_mass", "labels hold 95 %", "or more: of the candidates", True, 1),
)
PLAIN = {"forms": ("%.4f", "%.4f to %.4f"), "change_forms": ("%+.4f", "%+.4f to %+.4f")}
PERCENT = {"forms": ("%.1f %%", "%.1f to %.1f"), "change_forms": ("%+.1f", "%+.1f to %+.1f")}
"""How a figure is written, and a difference; a difference of shares is in points."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="written by evaluate")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: report.html in the first DIR"
    )


def run(options: argparse.Namespace) -> None:
    evaluations = [read(folder) for folder in options.folders]
    check_same(options.folders, evaluations)
    output = options.output or options.folders[0] / "report.html"
    write_whole(output, render(evaluations))
    print(f"{output} is ready")


def read(folder: Path) -> dict[str, Any]:
    """An evaluation, with each model's training log. Raises TrainingError for anything else."""
    file = folder / RESULT_FILE
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
        names = [model["name"] for model in found["models"]]
    except OSError:
        raise TrainingError(
            f"{file} is not there: write it with python -m training evaluate"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise TrainingError(f"{file} is not what evaluate writes: run evaluate again") from None
    if not names:
        raise TrainingError(f"{file} holds no model: run evaluate again")
    for model in found["models"]:
        model["compared"] = names[0]
        model["log"] = read_log(Path(model["folder"]) / LOG_FILE) if model["folder"] else []
    return found


def read_log(file: Path) -> list[dict[str, Any]]:
    """The lines of trainer_log.jsonl; none where there is no such file."""
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []
    except ValueError:
        raise TrainingError(f"{file} is not a training log: move it away") from None


def check_same(folders: Sequence[Path], evaluations: Sequence[dict[str, Any]]) -> None:
    first = evaluations[0]["data"]
    for folder, evaluation in zip(folders, evaluations, strict=True):
        for name in SAME:
            if evaluation["data"][name] != first[name]:
                raise TrainingError(
                    f"{folder} and {folders[0]} differ in {name}: they can't share a report"
                )


def render(evaluations: Sequence[dict[str, Any]]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from training.evaluation.charts import draw_calibration, draw_histogram, draw_losses, draw_roc

    models = [model for evaluation in evaluations for model in evaluation["models"]]
    names = unique_names(models)
    for number, model in enumerate(models):
        drawn = {one["folder"] for one in models[:number]}  # asked by another backend as well
        has_curve = model["log"] and model["folder"] not in drawn
        model["loss_chart"] = draw_losses(model, number) if has_curve else None
        model["name"] = names[number]
        model["about"] = about(model)
        model["calibration_chart"] = draw_calibration(model, number)
        model["histogram_chart"] = draw_histogram(model)
        model["figures"]["ece"] = {"value": model["ece"], "low": None, "high": None}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(TEMPLATE).render(
        data=evaluations[0]["data"],
        models=models,
        rows=[row for row in (make_row(models, figure) for figure in FIGURES) if row],
        compared=sorted({model["compared"] for model in models}),
        roc=draw_roc(models),
        made_with=[item for evaluation in evaluations for item in made_with(evaluation)],
    )


def unique_names(models: Sequence[dict[str, Any]]) -> list[str]:
    """Each model's name, and how it was asked where another evaluation has it too."""
    names = [model["name"] for model in models]
    return [
        f"{model['name']} ({model['backend']})" if names.count(model["name"]) > 1 else model["name"]
        for model in models
    ]


def about(model: dict[str, Any]) -> str:
    profile = model["profile"]
    if profile is None:
        return f"by {model['backend']}"
    return f"{profile['layout']['name']} prompt, last {profile['history']} clicks"


def make_row(models: Sequence[dict[str, Any]], figure: Figure) -> dict[str, Any] | None:
    """One line of the table; None where no model has the figure."""
    cells = [
        (
            scaled(m["figures"].get(figure.name), figure),
            scaled(m["differences"].get(figure.name), figure),
        )
        for m in models
    ]
    values = [one["value"] for one, _ in cells if one and one["value"] is not None]
    if not values:
        return None
    best = max(value * figure.best for value in values)
    found = [
        {
            "figure": one,
            "change": change,
            "sure": change is not None
            and change["low"] is not None
            and (change["low"] > 0 or change["high"] < 0),
            "best": one is not None
            and one["value"] is not None
            and one["value"] * figure.best == best
            and len(set(values)) > 1,
        }
        for one, change in cells
    ]
    return {**figure._asdict(), **(PERCENT if figure.percent else PLAIN), "cells": found}


def scaled(one: dict[str, Any] | None, figure: Figure) -> dict[str, Any] | None:
    """In percent where the line is."""
    if one is None or not figure.percent:
        return one
    return {part: None if value is None else 100 * value for part, value in one.items()}


def made_with(evaluation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    run, hardware = evaluation["run"], evaluation["run"]["hardware"]
    yield "time", run["time"]
    yield (
        "models",
        ", ".join(
            f"{model['name']}: {model['folder'] or 'no folder'}" for model in evaluation["models"]
        ),
    )
    yield "backend", evaluation["options"]["backend"]
    yield "data", f"{evaluation['options']['data']}, hash {evaluation['data']['data_hash']}"
    yield "hardware", f"{hardware['device']}, {hardware['threads']} processor threads"
    yield "commit", run["commit"] or "unknown"
    yield "versions", ", ".join(f"{name} {number}" for name, number in run["versions"].items())
