"""What a report says first: which model orders better, and by how much."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from training.evaluation.record import Evaluation, Figure, ModelResult


def title(evaluation: Evaluation) -> str:
    """The data set, as the folder that was measured on is called, its split, and the day."""
    data = evaluation.options.get("data")
    name = Path(str(data)).name if data else "unknown data"
    return f"Evaluation on {name} ({evaluation.data.split}), {evaluation.run.time[:10]}"


def headlines(evaluations: Sequence[Evaluation], names: Sequence[str]) -> list[str]:
    """A sentence for each model, the best in AUC first, each compared with the first model of its
    own evaluation. names: of all models, as the page calls them."""
    found: list[tuple[float, str]] = []
    left = iter(names)
    for evaluation in evaluations:
        own = [next(left) for _ in evaluation.models]
        found += compare(evaluation.models, own)
    return [text for _, text in sorted(found, key=lambda one: -one[0])]


def compare(models: Sequence[ModelResult], names: Sequence[str]) -> Iterator[tuple[float, str]]:
    """AUC and sentence of each model but the first, or of the only one; none without an AUC."""
    base, *others = zip(models, names, strict=True)
    for model, name in others or [base]:
        auc, against = model.figures.get("auc"), base[0].figures.get("auc")
        if auc is None or auc.value is None:
            continue
        if model is base[0] or against is None or against.value is None:
            yield auc.value, f"{name} has an AUC of {auc.value:.2f}{interval(auc)}."
            continue
        change = model.differences.get("auc")
        known = change if change and change.value is not None else None
        yield (
            auc.value,
            f"{name} {verdict(known)} {base[1]}: AUC {auc.value:.2f} against {against.value:.2f}"
            + (f", {signed(known.value)}{interval(known)}." if known and known.value else "."),
        )


def verdict(change: Figure | None) -> str:
    """change: of the AUC, with an interval."""
    if change is not None and change.low is not None and change.low > 0:
        return "orders better than"
    if change is not None and change.high is not None and change.high < 0:
        return "orders worse than"
    return "is not known to order better or worse than"


def interval(figure: Figure) -> str:
    """Such as " [0.11, 0.15]"; nothing for a figure without one."""
    if figure.low is None or figure.high is None:
        return ""
    return f" [{figure.low:.2f}, {figure.high:.2f}]".replace("-", "−")


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
