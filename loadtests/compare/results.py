"""Turns samples into figures, checks objectives, and draws a table and a picture."""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

OK_STATUS, REFUSED_STATUS = 200, 503
PERCENTILES = (50, 95, 99)
RATIOS = ("answers_per_s", *(f"p{percentile}_ms" for percentile in PERCENTILES))
HIGHER_IS_BETTER = ("answers_per_s", "stories_per_s", "rate_share", "answers_per_s_ratio")
LOWER_IS_BETTER = (
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
"""Heading, figure and format."""
Figures = dict[str, float]


class Sample(NamedTuple):
    """One request. Times are seconds since its run began. A status of 0 means no response."""

    stories: int
    due: float
    sent: float
    done: float
    status: int
    error: str


@dataclass(frozen=True)
class Run:
    """One turn of one variant. asked: number of requests that were due; 0 in a closed load."""

    seconds: float
    asked: int
    samples: list[Sample]

    @property
    def answered(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.status == OK_STATUS]

    @property
    def length(self) -> float:
        """Seconds until the last answer, and at least the length of the turn."""
        return max([self.seconds, *(sample.done for sample in self.samples)])

    @property
    def in_time(self) -> int:
        """How many answers arrived by the end of the turn.

        The last requests are granted the median latency of the first half of the turn, in which
        no long queue can have built up.
        """
        half = [s.done - s.due for s in self.answered if s.due < self.seconds / 2]
        end = self.seconds + (float(np.median(half)) if half else 0.0)
        return sum(sample.done <= end for sample in self.answered)


def read_samples(file: Path) -> list[Sample]:
    """Read what locustfile.py writes for --samples."""
    return [Sample(*json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def measure(runs: Sequence[Run]) -> Figures:
    """Figures of all runs together.

    Percentiles are latencies of the answers, counted from when each request was due. Shares are of
    all requests. rate_share, the share answered in time, exists only in an open load.
    """
    answered = [sample for run in runs for sample in run.answered]
    samples = [sample for run in runs for sample in run.samples]
    total = max(1, sum(max(run.asked, len(run.samples)) for run in runs))
    refused = sum(sample.status == REFUSED_STATUS for sample in samples)
    length = sum(run.length for run in runs)
    late = [(sample.sent - sample.due) * 1000 for sample in samples] or [np.nan]
    asked = sum(run.asked for run in runs)
    return {
        "requests": total,
        "answers_per_s": len(answered) / length,
        "stories_per_s": sum(sample.stories for sample in answered) / length,
        **{
            f"p{percent}_ms": float(np.percentile(latencies_ms(runs), percent))
            for percent in PERCENTILES
        },
        "error_share": (total - len(answered) - refused) / total,
        "refusal_share": refused / total,
        "sent_late_p99_ms": float(np.percentile(late, 99)),
        **({"rate_share": sum(run.in_time for run in runs) / asked} if asked else {}),
    }


def latencies_ms(runs: Sequence[Run]) -> list[float]:
    """Of all answers; a single NaN if there are none."""
    return [(s.done - s.due) * 1000 for run in runs for s in run.answered] or [np.nan]


def add_ratios(figures: Figures, base: Figures) -> None:
    """Add to `figures` their ratios to those of `base`."""
    figures |= {f"{name}_ratio": figures[name] / base[name] for name in RATIOS}


def count_errors(runs: Sequence[Run]) -> dict[str, int]:
    """How often each error occurred, by its text, the most frequent first."""
    found = Counter(sample.error for run in runs for sample in run.samples if sample.error)
    found["not sent or not answered"] = sum(max(0, run.asked - len(run.samples)) for run in runs)
    return {error: count for error, count in found.most_common() if count}


def find_missed(
    objectives: Mapping[tuple[str, str], float], variants: Mapping[str, Figures]
) -> list[str]:
    """One line per missed objective.

    objectives: limits by (variant, figure); the variant "" stands for every variant.
    """
    lines = []
    for (only, name), limit in objectives.items():
        for variant, figures in variants.items():
            found, least = figures.get(name, np.nan), name in HIGHER_IS_BETTER
            met = found >= limit if least else found <= limit  # NaN never meets a limit
            if only in ("", variant) and not met:
                bound = "at least" if least else "at most"
                lines.append(f"{variant}: {name} is {found:.4g}, not {bound} {limit:g}")
    return lines


def as_table(variants: Mapping[str, Figures]) -> str:
    """A plain-text table with one row per variant."""
    width = max(map(len, ("variant", *variants)))
    lines = [f"{'variant':{width}}" + "".join(f"{head:>11}" for head, _, _ in COLUMNS)]
    for name, figures in variants.items():
        cells = (format(figures[key], style) for _, key, style in COLUMNS)
        lines.append(f"{name:{width}}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def draw(variants: Mapping[str, Sequence[Run]], title: str) -> str:
    """An SVG of latency by percentile and of answers per second in each round."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    times, rates = figure.subplots(1, 2, width_ratios=(3, 2))
    percents = np.linspace(0, 99.5, 200)
    for place, (name, runs) in enumerate(variants.items()):
        times.plot(percents, np.percentile(latencies_ms(runs), percents), label=name)
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
