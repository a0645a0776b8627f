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
from training.progress import say

COMMONEST_TEXTS = 5


def measure_model(
    model: NamedModel,
    backend: Backend,
    questions: Questions,
    options: EvaluateOptions,
    base: Mapping[str, Ratio] | None,
) -> tuple[ModelResult, Mapping[str, Ratio]]:
    """base: the first model's figures, to compare with. Returns what goes into the file, and this
    model's own figures. Raises TrainingError for a score that is not a number."""
    started = time.perf_counter()
    answers = score_all(model.name, backend, questions)
    seconds = time.perf_counter() - started
    texts: list[str] = []
    if questions.text_pairs:
        say(f"{model.name}: {len(questions.text_pairs)} pairs in text")
        texts = backend.write(questions.text_samples())
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
        scoring=Scoring(
            seconds=seconds, candidates_per_s=questions.counts()["candidates"] / seconds
        ),
        speed=timings,
        roc=quality.roc(questions, answers),
        calibration=quality.calibration(questions, answers),
        ece=quality.calibration_error(questions, answers),
        histogram=quality.histogram(questions, answers),
        errors=quality.worst_errors(questions, answers),
        texts=[
            TextCount(text=text, count=n) for text, n in Counter(texts).most_common(COMMONEST_TEXTS)
        ],
    )
    return result, found


def time_model(
    name: str, backend: Backend, questions: Questions, options: EvaluateOptions
) -> list[Speed]:
    """How fast the model scores, and writes if it is asked for text; nothing if not asked to."""
    if not options.speed_seconds:
        return []
    say(f"{name}: timing")
    tasks: dict[str, speed.Call] = {"score": backend.score}
    if questions.text_pairs:
        tasks["text"] = backend.write
    seconds = options.speed_seconds
    return speed.measure(tasks, questions.impressions, backend.concurrent, options.sizes, seconds)


def score_all(name: str, backend: Backend, questions: Questions) -> list[Answers]:
    """Score in chunks, with a line of progress after each."""
    answers: list[Answers] = []
    total, started = len(questions.impressions), time.perf_counter()
    for start in range(0, total, backend.chunk):
        answers += backend.score(questions.impressions[start : start + backend.chunk])
        rate = len(answers) / (time.perf_counter() - started)
        left = (total - len(answers)) / rate
        say(f"{name}: {len(answers)}/{total} impressions, {rate:.1f}/s, {left:.0f} s left")
    check(name, questions, answers)
    return answers


def check(name: str, questions: Questions, answers: Sequence[Answers]) -> None:
    """Raise TrainingError for a score that is not a number."""
    for impression, answer in zip(questions.impressions, answers, strict=True):
        if not np.isfinite(answer.probability).all():
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
