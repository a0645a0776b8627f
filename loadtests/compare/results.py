"""Samples → figures, objectives, a table and a picture."""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

OK, REFUSED = 200, 503
PERCENTILES = (50, 95, 99)
RATIOS = ("answers_per_s", *(f"p{percentile}_ms" for percentile in PERCENTILES))
AT_LEAST = ("answers_per_s", "stories_per_s", "rate_share", "answers_per_s_ratio")
AT_MOST = (
    *(f"p{percentile}_ms{end}" for percentile in PERCENTILES for end in ("", "_ratio")),
    *("error_share", "refusal_share", "sent_late_p99_ms"),
)
COLUMNS = (
    *(("answers/s", "answers_per_s", ".1f"), ("stories/s", "stories_per_s", ".1f")),
    *((f"p{percentile} ms", f"p{percentile}_ms", ".1f") for percentile in PERCENTILES),
    *(("errors", "error_share", ".2%"), ("refused", "refusal_share", ".2%")),
    *(("x rate", "answers_per_s_ratio", ".2f"), ("x p50", "p50_ms_ratio", ".2f")),
    *(("x p95", "p95_ms_ratio", ".2f"), ("sent late", "sent_late_p99_ms", ".1f")),
)
Figures = dict[str, float]


class Sample(NamedTuple):
    """One request. Times are seconds since its run began; a status of 0 is no answer."""

    stories: int
    due: float
    sent: float
    done: float
    status: int
    error: str


@dataclass(frozen=True)
class Run:
    """One turn of one variant. asked: requests that were due; 0 in a closed load."""

    seconds: float
    asked: int
    samples: list[Sample]

    @property
    def answered(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.status == OK]

    @property
    def length(self) -> float:
        """Seconds until the last answer."""
        return max([self.seconds, *(sample.done for sample in self.samples)])

    @property
    def in_time(self) -> int:
        """Answers that were there at the end. The last requests are given the median time of those
        of the first half, when no long queue can have grown."""
        half = [s.done - s.due for s in self.answered if s.due < self.seconds / 2]
        end = self.seconds + (float(np.median(half)) if half else 0.0)
        return sum(sample.done <= end for sample in self.answered)


def read_samples(file: Path) -> list[Sample]:
    return [Sample(*json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def measure(runs: Sequence[Run]) -> Figures:
    """Figures of all runs together. Percentiles are those of the answers, from when each request
    was due; shares are of all requests; rate_share is what was answered in time, open load only."""
    answered = [sample for run in runs for sample in run.answered]
    samples = [sample for run in runs for sample in run.samples]
    total = max(1, sum(max(run.asked, len(run.samples)) for run in runs))
    refused = sum(sample.status == REFUSED for sample in samples)
    length = sum(run.length for run in runs)
    late = [(sample.sent - sample.due) * 1000 for sample in samples] or [np.nan]
    asked = sum(run.asked for run in runs)
    return {
        "requests": total,
        "answers_per_s": len(answered) / length,
        "stories_per_s": sum(sample.stories for sample in answered) / length,
        **{
            f"p{percent}_ms": float(np.percentile(took_ms(runs), percent))
            for percent in PERCENTILES
        },
        "error_share": (total - len(answered) - refused) / total,
        "refusal_share": refused / total,
        "sent_late_p99_ms": float(np.percentile(late, 99)),
        **({"rate_share": sum(run.in_time for run in runs) / asked} if asked else {}),
    }


def took_ms(runs: Sequence[Run]) -> list[float]:
    return [(s.done - s.due) * 1000 for run in runs for s in run.answered] or [np.nan]


def add_ratios(figures: Figures, base: Figures) -> None:
    figures |= {f"{name}_ratio": figures[name] / base[name] for name in RATIOS}


def count_errors(runs: Sequence[Run]) -> dict[str, int]:
    """Errors by their text, the most frequent first."""
    found = Counter(sample.error for run in runs for sample in run.samples if sample.error)
    found["not sent or not answered"] = sum(max(0, run.asked - len(run.samples)) for run in runs)
    return {error: count for error, count in found.most_common() if count}


def find_missed(
    objectives: Mapping[tuple[str, str], float], variants: Mapping[str, Figures]
) -> list[str]:
    """A line for each objective missed. objectives: (variant, figure) → limit; the variant "" is
    every one."""
    lines = []
    for (only, name), limit in objectives.items():
        for variant, figures in variants.items():
            found, least = figures.get(name, np.nan), name in AT_LEAST
            met = found >= limit if least else found <= limit  # never met by no number
            if only in ("", variant) and not met:
                bound = "at least" if least else "at most"
                lines.append(f"{variant}: {name} is {found:.4g}, not {bound} {limit:g}")
    return lines


def as_table(variants: Mapping[str, Figures]) -> str:
    width = max(map(len, ("variant", *variants)))
    lines = [f"{'variant':{width}}" + "".join(f"{head:>11}" for head, _, _ in COLUMNS)]
    for name, figures in variants.items():
        cells = (format(figures[key], style) for _, key, style in COLUMNS)
        lines.append(f"{name:{width}}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def draw(variants: Mapping[str, Sequence[Run]], title: str) -> str:
    """SVG: how long answers took, by percentile, and how many there were a second by round."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    times, rates = figure.subplots(1, 2, width_ratios=(3, 2))
    percents = np.linspace(0, 99.5, 200)
    for place, (name, runs) in enumerate(variants.items()):
        times.plot(percents, np.percentile(took_ms(runs), percents), label=name)
        each = [measure([run])["answers_per_s"] for run in runs]
        rates.bar(place, measure(runs)["answers_per_s"], alpha=0.6)
        rates.plot([place] * len(each), each, "k.", markersize=4)
    times.set(xlabel="percent of answers", ylabel="ms, from when due", yscale="log", title=title)
    times.yaxis.set_major_formatter("{x:g}")
    times.yaxis.set_minor_formatter("{x:g}")
    times.grid(alpha=0.3)
    times.legend(frameon=False)
    rates.set_xticks(range(len(variants)), list(variants))
    rates.set(ylabel="answers a second; dots: rounds")
    picture = io.StringIO()
    figure.savefig(picture, format="svg")
    return picture.getvalue()
