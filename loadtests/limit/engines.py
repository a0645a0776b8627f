"""Measures engines without HTTP, each in its own process so that its memory is freed at the end.

`python -m loadtests.limit.engines PART SETUP FILE` writes one line of JSON per row to FILE.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from app.engine.base import LabelScore
from app.scoring.prompt import Prompt
from loadtests.limit.machine import Setup, describe
from loadtests.limit.speed import ENGINE, LABELS, OFFLINE, ORIGINAL, Call, Row, as_record, measure
from loadtests.limit.workload import Workload

Write = Callable[[dict[str, Any]], None]
Score = Callable[[Sequence[list[Prompt]]], Call]


def main() -> None:
    part, setup, file = sys.argv[1:]
    with Path(file).open("w", encoding="utf-8") as lines:

        def write(record: dict[str, Any]) -> None:
            print(json.dumps(record), file=lines, flush=True)

        PARTS[part](Setup(**json.loads(setup)), write)


def run_offline(setup: Setup, write: Write) -> None:
    """Measure plain LLM.generate of vLLM: one token, with and without the labels' logprobs."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    from app.engine.arguments import engine_options

    options = engine_options(setup.settings())
    del options["worker_extension_cls"]
    llm = LLM(**options)
    workload = setup.workload()

    def generate(labels: list[int] | None) -> Score:
        given = {"logprob_token_ids": labels} if labels else {}
        params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, **given)

        def score(groups: Sequence[list[Prompt]]) -> Call:
            inputs = [
                TokensPrompt(prompt_token_ids=one.tokens) for group in groups for one in group
            ]
            sent = perf_counter()
            outputs = llm.generate(inputs, params, use_tqdm=False)
            done = perf_counter()
            prompt = sum(len(output.prompt_token_ids) for output in outputs)
            cached = sum(output.num_cached_tokens or 0 for output in outputs)
            return Call(len(inputs), sent, done, prompt, cached)

        return score

    for layout in dict.fromkeys((setup.layout, ORIGINAL)):
        labels = list(workload.labels(layout))
        for subject, score in ((OFFLINE, generate(None)), (LABELS, generate(labels))):
            for shape, targets in (("predict", 1), ("rank 50", 50)):
                write(as_record(run(score, subject, shape, targets, layout, setup, workload)))


def run_engine(setup: Setup, write: Write) -> None:
    """Measure the service's engine layer with as many calls in flight as the service gets."""
    import uvloop

    from app.engine.vllm import VllmEngine

    engine, workload = VllmEngine(setup.settings()), setup.workload()
    labels = workload.labels(setup.layout)

    async def score_all(groups: Sequence[list[Prompt]], at_once: int) -> Call:
        gate = asyncio.Semaphore(at_once)

        async def score_one(number: int, group: list[Prompt]) -> list[LabelScore]:
            async with gate:
                return await engine.score(group, labels, None, f"limit-{number}")

        sent = perf_counter()
        answers = await asyncio.gather(
            *(score_one(number, group) for number, group in enumerate(groups))
        )
        done = perf_counter()
        scores = [score for answer in answers for score in answer]
        prompt = sum(score.prompt_tokens for score in scores)
        return Call(len(scores), sent, done, prompt, sum(score.cached_tokens for score in scores))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(engine.start())
        try:
            runner.run(engine.use_labels(labels))

            for targets, shape in (
                (1, "predict"),
                *((one, f"rank {one}") for one in setup.rank_sizes),
            ):
                at_once = setup.at_once(targets)

                def score(groups: Sequence[list[Prompt]], at_once: int = at_once) -> Call:
                    return runner.run(score_all(groups, at_once))

                row = run(score, ENGINE, shape, targets, setup.layout, setup, workload)
                write(as_record(replace(row, at_once=at_once)))
        finally:
            runner.run(engine.stop())


def run(
    score: Score,
    subject: str,
    shape: str,
    targets: int,
    layout: str,
    setup: Setup,
    workload: Workload,
) -> Row:
    """One row of as many questions as should take the setup's seconds. The first round warms up,
    the second one says how many; each has readers of its own."""
    series = f"{LABELS} {shape}" if subject == LABELS else shape

    def ask(name: str, count: int) -> Call:
        asked = islice(workload.questions(name, targets), count)
        return score([workload.prompts(question, layout) for question in asked])

    round_size = setup.at_once(targets)
    try:
        ask(f"{series} warm-up", round_size)
        trial = ask(f"{series} trial", round_size)
        # Whole rounds only: a last round with fewer calls in flight would count against the engine.
        count = round_size * max(1, round(setup.seconds / (trial.done - trial.sent)))
        figures = measure([ask(series, count)])
    except Exception as error:  # whatever an engine raises is reported in its row
        return Row(subject, shape, layout, error=f"{type(error).__name__}: {error}")
    for name in ("p50_ms", "p95_ms"):  # meaningless for one call that holds all questions
        del figures[name]
    return Row(subject, shape, layout, 0, figures | {"calls": count})


PARTS = {
    "describe": lambda setup, write: write(describe(setup)),
    "offline": run_offline,
    "engine": run_engine,
}


if __name__ == "__main__":
    main()
