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
    say(f"{name}: {len(questions.text_pairs)} pairs in text")
    return backend.write(questions.text_samples())


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
