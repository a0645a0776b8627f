"""evaluation.json as one HTML page. Its template, report.html.jinja, lies beside this file."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from training.errors import TrainingError
from training.evaluation.charts import (
    draw_auc,
    draw_calibration,
    draw_histogram,
    draw_losses,
    draw_roc,
)
from training.evaluation.headline import headlines, title
from training.evaluation.options import ReportOptions
from training.evaluation.record import Evaluation, ModelResult
from training.evaluation.table import PLAIN, Row, make_rows, ranker_lines
from training.folders import LOG_FILE, write_whole

TEMPLATE = "report.html.jinja"
MUST_AGREE = ("data_hash", "split", "impressions", "candidates")
"""What evaluations must have in common to share a page."""


@dataclass(frozen=True, slots=True)
class Column:
    """A model on the page. name: told apart from the same model asked by another backend. about:
    how its prompts are built. loss_chart: None for a model without a training log. ranker_rows: a
    cell for each way to order; none where no ranker was measured."""

    result: ModelResult
    name: str
    about: str
    calibration_chart: Markup
    histogram_chart: Markup
    loss_chart: Markup | None
    ranker_rows: list[Row]


def write_page(options: ReportOptions) -> Path:
    """Write the page and return its path. Raises TrainingError."""
    evaluations = [Evaluation.read(folder) for folder in options.folders]
    check_same(options.folders, evaluations)
    output = options.output or options.folders[0] / "report.html"
    write_whole(output, render(evaluations))
    return output


def check_same(folders: Sequence[Path], evaluations: Sequence[Evaluation]) -> None:
    """Raise TrainingError if the evaluations are not of the same impressions."""
    first = evaluations[0].data
    for folder, evaluation in zip(folders, evaluations, strict=True):
        for name in MUST_AGREE:
            if getattr(evaluation.data, name) != getattr(first, name):
                raise TrainingError(
                    f"{folder} and {folders[0]} differ in {name}: they can't share a report"
                )


def render(evaluations: Sequence[Evaluation]) -> str:
    """The page. Raises TrainingError for a file that is not a training log."""
    results = [model for evaluation in evaluations for model in evaluation.models]
    names = unique_names(results)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(TEMPLATE).render(
        title=title(evaluations[0]),
        headlines=headlines(evaluations, names),
        data=evaluations[0].data,
        models=[make_column(results, names, number) for number in range(len(results))],
        rows=make_rows(results),
        plain=PLAIN,
        compared=sorted({evaluation.models[0].name for evaluation in evaluations}),
        auc=draw_auc(results, names),
        roc=draw_roc(results, names),
        made_with=[item for evaluation in evaluations for item in made_with(evaluation)],
    )


def unique_names(results: Sequence[ModelResult]) -> list[str]:
    """Each model's name, with its backend where another evaluation has the same name."""
    names = [model.name for model in results]
    return [
        f"{model.name} ({model.backend})" if names.count(model.name) > 1 else model.name
        for model in results
    ]


def make_column(results: Sequence[ModelResult], names: Sequence[str], number: int) -> Column:
    """The model of that number, drawn. Its losses are drawn once, though it be asked twice."""
    result, name = results[number], names[number]
    ranker = result.ranker
    already_drawn = result.folder in {one.folder for one in results[:number]}
    log = [] if result.folder is None or already_drawn else read_log(Path(result.folder) / LOG_FILE)
    return Column(
        result=result,
        name=name,
        about=describe_prompt(result),
        calibration_chart=draw_calibration(result.calibration, name, number),
        histogram_chart=draw_histogram(result.histogram, name),
        loss_chart=draw_losses(log, result.name, number) if log else None,
        ranker_rows=make_rows(ranker.lines, ranker_lines(ranker.clicks)) if ranker else [],
    )


def read_log(file: Path) -> list[dict[str, Any]]:
    """The lines of trainer_log.jsonl, each with figures by name; none if there is no such file.

    A last line that a kill cut short is left out. Raises TrainingError for a file of something
    else.
    """
    if not file.is_file():
        return []
    lines = file.read_bytes().splitlines()
    found = [figures_of(line) for line in lines]
    kept = [figures for figures in found if figures is not None]
    if kept != found[: len(kept)] or len(kept) < len(found) - 1:
        raise TrainingError(f"{file} is not a training log: move it away")
    return kept


def figures_of(line: bytes) -> dict[str, Any] | None:
    """A line of trainer_log.jsonl; None for a line of something else."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def describe_prompt(result: ModelResult) -> str:
    """How the model's prompts are built or, where that is not known, by what it was asked."""
    if result.profile is None:
        return f"by {result.backend}"
    return f"{result.profile.layout.name} prompt, last {result.profile.history} clicks"


def made_with(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Names and values for the foot of the page."""
    run, given = evaluation.run, evaluation.options
    yield "time", run.time
    yield (
        "models",
        ", ".join(f"{model.name}: {model.folder or 'no folder'}" for model in evaluation.models),
    )
    yield "backend", str(given.get("backend", "unknown"))
    yield "data", f"{given.get('data', 'unknown')}, hash {evaluation.data.data_hash}"
    yield "hardware", f"{run.hardware.device}, {run.hardware.threads} processor threads"
    yield "commit", run.commit or "unknown"
    yield "versions", ", ".join(f"{name} {number}" for name, number in run.versions.items())
