"""One model asked all questions: what goes into evaluation.json of it."""

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from training.errors import TrainingError
from training.evaluation import metrics, quality, speed
from training.evaluation.backends.base import Answers, Backend
from training.evaluation.metrics import Estimate, Ratio
from training.evaluation.quality import Questions
from training.progress import say


def measure_model(
    name: str,
    backend: Backend,
    questions: Questions,
    options: argparse.Namespace,
    base: Mapping[str, Ratio] | None,
) -> tuple[dict[str, Any], dict[str, Ratio]]:
    """base: the first model's figures, to compare with. Returns what goes into the file, and this
    model's own figures. Raises TrainingError where a score is no number."""
    started = time.perf_counter()
    answers = score_all(name, backend, questions)
    seconds = time.perf_counter() - started
    texts: list[str] = []
    tasks: dict[str, speed.Call] = {"score": backend.score}
    if questions.text_pairs:
        tasks["text"] = backend.write
        say(f"{name}: {len(questions.text_pairs)} pairs in text")
        texts = backend.write(questions.text_samples())
    timings: list[dict[str, Any]] = []
    if options.speed_seconds:
        say(f"{name}: timing")
        timings = speed.measure(
            tasks, questions.impressions, backend.concurrent, options.sizes, options.speed_seconds
        )
    found = quality.figures(questions, answers, texts)
    sure = (options.bootstrap, options.seed)
    measured = {
        "name": name,
        "profile": backend.profile.model_dump(mode="json") if backend.profile else None,
        "figures": as_json(metrics.estimates(found, *sure)),
        "differences": as_json(metrics.differences(found, base, *sure)) if base else {},
        "scoring": {
            "seconds": seconds,
            "candidates_per_s": questions.counts()["candidates"] / seconds,
        },
        "speed": timings,
        **quality.curves(questions, answers),
        "errors": quality.worst_errors(questions, answers),
        "texts": [{"text": text, "count": n} for text, n in Counter(texts).most_common(5)],
    }
    return measured, found


def score_all(name: str, backend: Backend, questions: Questions) -> list[Answers]:
    """In chunks, with a line of progress after each."""
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
    for impression, answer in zip(questions.impressions, answers, strict=True):
        if not np.isfinite(answer.probability).all():
            raise TrainingError(
                f"{name}: impression {impression.id} got a score that is no number; the weights "
                "may be damaged, or too large for their dtype: try --dtype float32"
            )


def as_json(found: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    """JSON has no NaN: null says that there is too little to tell."""
    return {
        name: {part: None if np.isnan(number) else number for part, number in asdict(one).items()}
        for name, one in found.items()
    }
