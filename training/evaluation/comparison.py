"""One model asked all questions, and what evaluation.json says of it."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from training import metrics
from training.errors import TrainingError
from training.evaluation import quality, speed
from training.evaluation.backends.base import Answers, Backend
from training.evaluation.options import EvaluateOptions, NamedModel
from training.evaluation.quality import Questions
from training.evaluation.record import Figure, ModelResult, Scoring, Speed, TextCount
from training.metrics import Estimate, Ratio
from training.progress import progress

COMMONEST_TEXTS = 5


def measure_model(
    model: NamedModel,
    backend: Backend,
    questions: Questions,
    options: EvaluateOptions,
    base: Mapping[str, Ratio] | None,
) -> tuple[ModelResult, Mapping[str, Ratio], list[Answers]]:
    """base: the first model's figures, to compare with. Returns what goes into the file, this
    model's own figures, and its answers. Raises TrainingError for a score that is not a number."""
    started = time.perf_counter()
    answers = score_all(model.name, backend, questions)
    scoring = describe_scoring(questions, time.perf_counter() - started)
    texts = ask_in_text(model.name, backend, questions)
    timings = time_model(model.name, backend, questions, options)
    found = quality.figures(questions, answers, texts)
    resampling = (options.bootstrap, options.seed)
    differences = metrics.differences(found, base, *resampling) if base else {}
    result = ModelResult(
        folder=None if model.folder is None else str(model.folder),
        backend=options.backend,
        name=model.name,
        profile=backend.profile,
        figures=as_figures(metrics.estimates(found, *resampling)),
        differences=as_figures(differences),
        scoring=scoring,
        speed=timings,
        roc=quality.roc(questions, answers),
        calibration=quality.calibration(questions, answers),
        ece=quality.calibration_error(questions, answers),
        histogram=quality.histogram(questions, answers),
        errors=quality.worst_errors(questions, answers),
        texts=count_texts(texts),
    )
    return result, found, answers


def describe_scoring(questions: Questions, seconds: float) -> Scoring:
    """seconds: what scoring all impressions took."""
    rate = questions.counts()["candidates"] / seconds
    return Scoring(seconds=seconds, candidates_per_s=rate)


def ask_in_text(name: str, backend: Backend, questions: Questions) -> list[str]:
    """The answers in words, one for each text sample."""
    if not questions.text_pairs:
        return []
    samples, texts = questions.text_samples(), []
    with progress(f"{name}: answers in text", len(samples), "samples") as work:
        for start in range(0, len(samples), backend.chunk):
            texts += backend.write(samples[start : start + backend.chunk])
            work.advance(len(texts) - work.done)
        work.report()
    return texts


def count_texts(texts: Sequence[str]) -> list[TextCount]:
    """The commonest texts, the commonest first."""
    commonest = Counter(texts).most_common(COMMONEST_TEXTS)
    return [TextCount(text=text, count=count) for text, count in commonest]


def time_model(
    name: str, backend: Backend, questions: Questions, options: EvaluateOptions
) -> list[Speed]:
    """How fast the model scores, and writes if it is asked for text; nothing if not asked to."""
    if not options.speed_seconds:
        return []
    tasks: dict[str, speed.Call] = {"score": backend.score}
    if questions.text_pairs:
        tasks["text"] = backend.write
    rows, seconds = questions.impressions, options.speed_seconds
    with progress(f"{name}: timing"):
        return speed.measure(tasks, rows, backend.concurrent, options.sizes, seconds)


def score_all(name: str, backend: Backend, questions: Questions) -> list[Answers]:
    """Score in chunks, with lines of progress."""
    answers: list[Answers] = []
    rows = questions.impressions
    with progress(name, len(rows), "impressions") as work:
        for start in range(0, len(rows), backend.chunk):
            answers += backend.score(rows[start : start + backend.chunk])
            work.advance(len(answers) - work.done)
        work.report()
    check(name, questions, answers)
    return answers


def check(name: str, questions: Questions, answers: Sequence[Answers]) -> None:
    """Raise TrainingError for a score that is not a number."""
    for impression, answer in zip(questions.impressions, answers, strict=True):
        if not np.isfinite([answer.probability, answer.mass]).all():
            raise TrainingError(
                f"{name}: impression {impression.id} got a score that is not a number; the weights"
                " may be damaged, or too large for their dtype: try --dtype float32"
            )


def as_figures(found: Mapping[str, Estimate]) -> dict[str, Figure]:
    """With None for NaN, which JSON does not have."""
    return {
        name: Figure(
            **{part: None if np.isnan(number) else number for part, number in asdict(one).items()}
        )
        for name, one in found.items()
    }
