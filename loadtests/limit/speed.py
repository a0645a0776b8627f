"""Turns calls into a row of figures, and rows into a table and ratios."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Call:
    """One answered call.

    sent, done: seconds on the same clock. Token counts are sums over the call's stories, and None
    if the response does not report them. written: generated tokens. parsed: whether the generated
    text is an answer.
    """

    stories: int
    sent: float
    done: float
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    written: int | None = None
    parsed: bool | None = None


@dataclass(frozen=True)
class Row:
    """One measurement.

    at_once: calls in flight; 0 means all of them. figures: empty if there is an error.
    """

    subject: str
    shape: str
    layout: str
    at_once: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.subject, self.shape, self.layout

    def with_limits(self, token_limit: float | None, limits: dict[str, float]) -> "Row":
        """A copy with the shares of the limit added.

        token_limit: tokens per second. limits: stories per second, by "shape layout".
        """
        more: dict[str, float] = {}
        limit = limits.get(f"{self.shape.split(',')[0]} {self.layout}")
        if limit and "stories_per_s" in self.figures:
            more["limit_share"] = self.figures["stories_per_s"] / limit
        if token_limit and "computed_tokens_per_s" in self.figures:
            more["computed_share"] = self.figures["computed_tokens_per_s"] / token_limit
        return Row(**{**asdict(self), "figures": self.figures | more})


def duration(calls: Sequence[Call]) -> float:
    """Seconds from the first send to the last answer."""
    return max(call.done for call in calls) - min(call.sent for call in calls)


def measure(
    calls: Sequence[Call], cpu_seconds: float | None = None, seconds: float | None = None
) -> dict[str, float]:
    """Figures of one measurement, which lasts from its first send to its last answer.

    computed_tokens_per_s counts the prompt tokens that did not come from a cache. cpu_seconds: CPU
    time of the server's own process. seconds: how long the measurement took, if it had pauses.
    """
    stories = sum(call.stories for call in calls)
    seconds = seconds or duration(calls)
    took = [(call.done - call.sent) * 1000 for call in calls]
    figures = {
        "stories_per_s": stories / seconds,
        "calls": len(calls),
        "seconds": seconds,
        "p50_ms": float(np.percentile(took, 50)),
        "p95_ms": float(np.percentile(took, 95)),
    }
    if all(call.prompt_tokens is not None for call in calls):
        prompt = sum(call.prompt_tokens or 0 for call in calls)
        figures["tokens_per_story"] = prompt / stories
        if all(call.cached_tokens is not None for call in calls):
            computed = prompt - sum(call.cached_tokens or 0 for call in calls)
            figures["computed_per_story"] = computed / stories
            figures["computed_tokens_per_s"] = computed / seconds
    if all(call.written is not None for call in calls):
        figures["written_per_story"] = sum(call.written or 0 for call in calls) / stories
    if all(call.parsed is not None for call in calls):
        figures["parsed_share"] = sum(call.parsed or False for call in calls) / len(calls)
    if cpu_seconds is not None:
        figures["server_cpu_ms_per_story"] = cpu_seconds * 1000 / stories
    return figures


COLUMNS = (
    ("stories/s", "stories_per_s", ",.1f"),
    ("calls", "calls", ".0f"),
    ("p50 ms", "p50_ms", ",.0f"),
    ("p95 ms", "p95_ms", ",.0f"),
    ("prompt tokens", "tokens_per_story", ".1f"),
    ("computed", "computed_per_story", ".1f"),
    ("of the limit", "limit_share", ".0%"),
    ("computed of the limit", "computed_share", ".0%"),
    ("server CPU ms", "server_cpu_ms_per_story", ".2f"),
    ("tokens written", "written_per_story", ".1f"),
    ("parsed", "parsed_share", ".0%"),
)
"""Heading, figure and format. Tokens and CPU time are per story. "computed" are the tokens that did
not come from a prefix cache. "of the limit" counts only the tokens that a story needs."""


def as_table(rows: Sequence[Row]) -> str:
    """A Markdown table with one row per measurement."""
    heads = ["measured", "prompts", "layout", "at once", *(head for head, _, _ in COLUMNS)]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        start = [row.subject, row.shape, row.layout]
        if row.error:
            blank = ["–"] * (len(COLUMNS) - 1)
            lines.append([*start, "–", *blank, row.error.replace("|", "/").replace("\n", " ")])
            continue
        at_once = str(row.at_once or "all") if "calls" in row.figures else "–"
        cells = (
            format(row.figures[key], style) if key in row.figures else "–"
            for _, key, style in COLUMNS
        )
        lines.append([*start, at_once, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


LIMIT, OFFLINE, LABELS, ENGINE, HTTP = "limit", "offline", "offline, labels", "engine", "http"
CHAT, CHATS, COMPLETIONS = "vllm chat, one at a time", "vllm chat", "vllm completions"
ALSO = "engine, other model"
SCORING, TRANSFORMERS = "vllm generative_scoring", "transformers"
OURS, ORIGINAL = "ours", "original"
RATIOS: dict[str, tuple[tuple[str, str, str], tuple[str, str, str]]] = {
    "http_predict_of_limit": ((HTTP, "predict", OURS), (LIMIT, "predict", OURS)),
    "http_predict_of_offline": ((HTTP, "predict", OURS), (OFFLINE, "predict", OURS)),
    "http_batch_of_offline": ((HTTP, "predict, batches", OURS), (OFFLINE, "predict", OURS)),
    "http_predict_of_engine": ((HTTP, "predict", OURS), (ENGINE, "predict", OURS)),
    **{
        f"http_rank_{count}_of_engine": (
            (HTTP, f"rank {count}", OURS),
            (ENGINE, f"rank {count}", OURS),
        )
        for count in (1, 10, 50, 200)
    },
    "engine_predict_of_offline": ((ENGINE, "predict", OURS), (OFFLINE, "predict", OURS)),
    "engine_rank_50_of_offline": ((ENGINE, "rank 50", OURS), (OFFLINE, "rank 50", OURS)),
    **{
        f"also_rank_{count}_to_engine": (
            (ALSO, f"rank {count}", OURS),
            (ENGINE, f"rank {count}", OURS),
        )
        for count in (10, 50)
    },
    "http_rank_50_of_limit": ((HTTP, "rank 50", OURS), (LIMIT, "rank 50", OURS)),
    "http_rank_50_to_stock_offline": ((HTTP, "rank 50", OURS), (LABELS, "rank 50", ORIGINAL)),
    "http_predict_to_chat_one_at_a_time": ((HTTP, "predict", OURS), (CHAT, "predict", ORIGINAL)),
    "http_predict_to_chat": ((HTTP, "predict", OURS), (CHATS, "predict", ORIGINAL)),
    "http_rank_50_to_chat_one_at_a_time": ((HTTP, "rank 50", OURS), (CHAT, "rank 50", ORIGINAL)),
    "http_rank_50_to_chat": ((HTTP, "rank 50", OURS), (CHATS, "rank 50", ORIGINAL)),
    "http_rank_50_to_completions": ((HTTP, "rank 50", OURS), (COMPLETIONS, "rank 50", OURS)),
    "http_rank_50_to_generative_scoring": ((HTTP, "rank 50", OURS), (SCORING, "rank 50", OURS)),
    "http_predict_to_transformers": ((HTTP, "predict", OURS), (TRANSFORMERS, "predict", ORIGINAL)),
    "http_rank_50_to_transformers": ((HTTP, "rank 50", OURS), (TRANSFORMERS, "predict", ORIGINAL)),
}
"""Ratios of stories per second. A name with "of" is a share that should not exceed 1; one with "to"
is a speed-up."""


ALL = "all"


def shortlist_shape(shape: str, shortlist: int | str) -> str:
    """The name of rankings of `shape` of which the language model judges `shortlist` or ALL."""
    return f"{shape}, {ALL}" if shortlist == ALL else f"shortlist {shortlist} of {shape}"


def shortlist_pair(shape: str) -> dict[str, tuple[tuple[str, str, str], ...]]:
    """The ratio of rankings with a shortlist to the same without; empty for another shape."""
    short, of, whole = shape.partition(" of ")
    if not of or not short.startswith("shortlist "):
        return {}
    name = f"{short} to {ALL} of {whole}".replace(" ", "_")
    return {name: ((HTTP, shape, OURS), (HTTP, shortlist_shape(whole, ALL), OURS))}


def find_ratios(rows: Sequence[Row], layout: str) -> dict[str, float]:
    """The ratios for which both rows were measured."""
    pairs: dict[str, Any] = dict(RATIOS)
    for row in rows:
        pairs |= shortlist_pair(row.shape)
    rates = {row.key: row.figures["stories_per_s"] for row in rows if row.figures}
    found: dict[str, float] = {}
    for name, pair in pairs.items():
        keys = [(who, shape, layout if which == OURS else which) for who, shape, which in pair]
        over, under = (rates.get(key) for key in keys)
        if over is not None and under:
            found[name] = round(over / under, 4)
    return found


OMITTED_IF_EMPTY = ("figures", "error")


def as_record(row: Row) -> dict[str, Any]:
    """The row as JSON. Row(**record) restores it, with figures rounded."""
    record = asdict(row)
    record["figures"] = {name: round(value, 4) for name, value in row.figures.items()}
    return {name: value for name, value in record.items() if value or name not in OMITTED_IF_EMPTY}
