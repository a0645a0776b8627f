"""Large requests are worked off in slices, on an engine whose steps the test ends by hand."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest

from app.admission import Admission
from app.engine.base import LabelScore
from app.engine.fake import FakeEngine
from app.engine.turns import GENERATION, Turns, after, cost, shared, slices
from app.errors import Overloaded
from app.scoring.prompt import Prompt
from tests.support.waiting import until

LABELS = (1, 2)
BLOCK = 20


def prompts(count: int, reader: int = 0, prefix: int = 40, tail: int = 10) -> list[Prompt]:
    """Different prompts of one reader, with one prefix."""
    shared = (reader,) * prefix
    return [Prompt(shared, (number,) * tail, 0) for number in range(count)]


class ByHand(FakeEngine):
    """Each call of `score` waits until the test finishes it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int]] = []  # who, how many prompts
        self.waiting: dict[str, asyncio.Event] = {}

    async def score(
        self,
        prompts: Sequence[Prompt],
        labels: tuple[int, int],
        adapter: str | None,
        request_id: str,
    ) -> list[LabelScore]:
        self.calls.append((request_id, len(prompts)))
        self.waiting[request_id] = asyncio.Event()
        try:
            await self.waiting[request_id].wait()
            return await super().score(prompts, labels, adapter, request_id)
        finally:
            del self.waiting[request_id]

    async def finish(self, request_id: str) -> None:
        self.waiting[request_id].set()
        await settle()


async def settle() -> None:
    """Everything that can go on has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def engine() -> ByHand:
    return ByHand()


@pytest.fixture
def turns(engine: ByHand) -> Turns:
    admission = Admission(max_requests=100)
    admission.allow_tokens(400)
    turns = Turns(engine, admission)
    turns.whole_tokens = turns.slice_tokens = 100
    return turns


def start(turns: Turns, name: str, found: list[Prompt]) -> asyncio.Task[list[LabelScore]]:
    return asyncio.create_task(turns.score(found, LABELS, None, name))


async def test_a_small_request_waits_for_one_slice_at_most(turns: Turns, engine: ByHand) -> None:
    large = start(turns, "large", prompts(26))
    await settle()
    assert engine.calls == [("large", 6)]  # 40 + 6 · 10 tokens
    first = start(turns, "first", prompts(1, reader=1))
    second = start(turns, "second", prompts(2, reader=2))
    await settle()
    assert engine.calls[1:] == [("first", 1), ("second", 2)]  # at once
    await engine.finish("large")
    await engine.finish("first")
    assert len(engine.calls) == 3  # the large one waits for the second
    await engine.finish("second")
    assert engine.calls[3:] == [("large", 10)]  # its prefix is in the cache
    third = start(turns, "third", prompts(1, reader=3))
    await settle()
    await engine.finish("third")
    for _ in range(2):
        await engine.finish("large")
    assert [size for name, size in engine.calls if name == "large"] == [6, 10, 10]
    expected = await FakeEngine().score(prompts(26), LABELS, None, "")
    assert await large == expected
    assert [len(await task) for task in (first, second, third)] == [1, 2, 1]


async def test_what_one_step_computes_stays_whole(turns: Turns, engine: ByHand) -> None:
    turns.whole_tokens = 240
    start(turns, "step", prompts(20))
    start(turns, "more", prompts(21))
    await settle()
    assert engine.calls == [("step", 20)]
    assert turns.admission.tokens == 240
    await engine.finish("step")
    assert engine.calls[1:] == [("more", 6)]


async def test_slices_are_long_while_nobody_else_asks(
    turns: Turns, engine: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns.whole_tokens = 400
    start(turns, "large", prompts(50))
    await settle()
    small = start(turns, "small", prompts(1, reader=1))
    await settle()
    await engine.finish("large")
    await engine.finish("small")
    await small
    monkeypatch.setattr("app.engine.turns.CALM_S", -1.0)
    await engine.finish("large")
    assert [size for name, size in engine.calls if name == "large"] == [16, 10, 20]


def test_slices_are_shorter_late_in_a_prompt() -> None:
    assert [after(place, 256) for place in (0, 1000, 4096, 8192)] == [256, 256, 128, 64]
    assert after(100_000, 256) == 32


class Remembering(FakeEngine):
    """Its cache keeps all that it has read, or nothing."""

    def __init__(self, *, keeps: bool = True) -> None:
        super().__init__()
        self.keeps = keeps
        self.read: list[tuple[int, ...]] = []
        self.computed: list[int] = []

    async def score(
        self,
        prompts: Sequence[Prompt],
        labels: tuple[int, int],
        adapter: str | None,
        request_id: str,
    ) -> list[LabelScore]:
        scores = await super().score(prompts, labels, adapter, request_id)
        found = [self._remember(tuple(prompt.tokens)) for prompt in prompts]
        made = [replace(s, cached_tokens=c) for s, c in zip(scores, found, strict=True)]
        self.computed.append(sum(one.prompt_tokens - one.cached_tokens for one in made))
        return made

    def _remember(self, tokens: tuple[int, ...]) -> int:
        known = max((shared(tokens, other) for other in self.read), default=0)
        if self.keeps:
            self.read.append(tokens)
        return min(known, len(tokens) - 1)


@pytest.mark.parametrize("count", [1, 30])
async def test_a_long_reader_is_read_in_slices_too(count: int) -> None:
    """The prefix of one /predict alone can be more than a step."""
    engine = Remembering()
    turns = Turns(engine, Admission(100))
    turns.admission.allow_tokens(400)
    turns.whole_tokens = turns.slice_tokens = 100
    asked = [
        Prompt(tuple(range(1000, 1730)), tuple(range(number * 10, number * 10 + 10)), 0)
        for number in range(count)
    ]
    scores = await turns.score(asked, LABELS, None, "long")
    assert max(engine.computed) <= 100
    plain = await FakeEngine().score(asked, LABELS, None, "")
    assert [replace(score, cached_tokens=0) for score in scores] == plain
    assert scores[0].cached_tokens == 0  # what the request's own parts left there does not count
    assert sum(score.prompt_tokens - score.cached_tokens for score in scores) == 730 + 10 * count
    assert turns.admission.large_tokens == 0


async def test_without_a_cache_a_long_reader_is_not_read_over_and_over() -> None:
    engine = Remembering(keeps=False)
    turns = Turns(engine, Admission(100))
    turns.admission.allow_tokens(400)
    turns.whole_tokens = turns.slice_tokens = 100
    await turns.score(prompts(1, prefix=900), LABELS, None, "long")
    assert engine.computed == [100, 200, 910]


async def test_small_requests_that_keep_coming_do_not_starve_a_large_one(
    turns: Turns, engine: ByHand
) -> None:
    start(turns, "large", prompts(26))
    start(turns, "0", prompts(1))
    await settle()
    for number in range(1, 20):  # there is always one in the engine
        start(turns, f"{number}", prompts(1))
        await settle()
        await engine.finish(f"{number - 1}")
        if "large" in engine.waiting:
            await engine.finish("large")
    assert [size for name, size in engine.calls if name == "large"] == [6, 10, 10]
    assert "large" not in engine.waiting


async def test_large_requests_take_turns(turns: Turns, engine: ByHand) -> None:
    start(turns, "a", prompts(26, reader=1))
    start(turns, "b", prompts(16, reader=2))
    await settle()
    while engine.waiting:
        assert len(engine.waiting) == 1
        await engine.finish(next(iter(engine.waiting)))
    assert [name for name, _ in engine.calls] == ["a", "b", "a", "b", "a"]


async def test_who_leaves_gives_the_turn_back(turns: Turns, engine: ByHand) -> None:
    gone, small, other = (
        start(turns, "gone", prompts(26)),
        start(turns, "small", prompts(1)),
        start(turns, "other", prompts(26)),
    )
    await settle()
    gone.cancel()
    await settle()
    assert "other" not in engine.waiting  # the small one is still at work
    small.cancel()
    await settle()
    assert "other" in engine.waiting
    other.cancel()
    await settle()
    assert not engine.waiting
    assert turns.admission.tokens == turns.admission.large_tokens == 0
    after = start(turns, "after", prompts(26))
    await settle()
    for _ in range(3):
        await engine.finish("after")
    assert len(await after) == 26


async def test_a_large_request_is_refused_for_others_of_its_kind_only(
    turns: Turns, engine: ByHand
) -> None:
    start(turns, "large", prompts(50))  # 540 tokens, beyond the limit of 400
    await settle()
    with pytest.raises(Overloaded, match="540 prompt tokens of large requests"):
        await turns.score(prompts(26), LABELS, None, "another")
    small = [start(turns, f"{number}", prompts(6, number)) for number in range(4)]
    await settle()
    assert turns.admission.tokens == 400
    for found in (prompts(1), prompts(26)):
        with pytest.raises(Overloaded, match="400 prompt tokens are in progress"):
            await turns.score(found, LABELS, None, "more")
    for number in range(4):
        await engine.finish(f"{number}")
    assert [len(await task) for task in small] == [6] * 4


async def test_a_dead_engine_ends_a_large_request(turns: Turns, engine: ByHand) -> None:
    large = start(turns, "large", prompts(26))
    await settle()
    engine.dead = True
    await engine.finish("large")
    with pytest.raises(Exception, match="the engine has died"):
        await large
    assert turns.admission.large_tokens == 0


class Cache:
    """Reads prompts of a chat up to a place, as the engine's cache of whole blocks does."""

    def __init__(self) -> None:
        self.blocks: set[tuple[int, ...]] = set()
        self.read: list[int] = []  # places

    async def compute(self, tokens: list[int], end: int) -> int:
        await settle()
        self.read.append(end)
        ends = range(BLOCK, end, BLOCK)
        found = max((place for place in ends if tuple(tokens[:place]) in self.blocks), default=0)
        self.blocks |= {tuple(tokens[:place]) for place in range(BLOCK, end + 1, BLOCK)}
        return end - found

    async def chat(
        self, turns: Turns, *chats: list[int], whole: bool = False
    ) -> list[tuple[int, int]]:
        """The prompts of one request. Tokens left and computed, of each."""
        with turns.generation(sum(map(len, chats)), 7):
            generation = GENERATION.get()
            assert generation

            async def read(tokens: list[int]) -> tuple[int, int]:
                with generation.prompt(len(tokens)):
                    compute = partial(self.compute, tokens)
                    return await generation.read(tokens, compute, whole=whole)

            return await asyncio.gather(*map(read, chats))


async def test_a_long_prompt_is_read_in_parts(turns: Turns) -> None:
    cache = Cache()
    assert await cache.chat(turns, list(range(100))) == [(100, 0)]
    assert await cache.chat(turns, list(range(250, 0, -1))) == [(50, 200)]
    assert cache.read == [100, 200]
    assert await cache.chat(turns, list(range(1000, 1250)), whole=True) == [(0, 250)]
    assert cache.read[2:] == [100, 200, 250]
    assert await cache.chat(turns, list(range(20)), whole=True) == [(0, 20)]


async def test_what_the_cache_holds_of_a_prompt_takes_few_parts(turns: Turns) -> None:
    cache = Cache()
    known = list(range(1600))
    await cache.chat(turns, known)
    cache.read.clear()
    (found,) = await cache.chat(turns, [*known, *range(5000, 5400)])
    assert cache.read[:4] == [100, 300, 700, 1100]
    assert all(end - start <= 400 for start, end in pairwise(cache.read))
    assert len(cache.read) <= 10
    assert found[1] < 400 + 8 * BLOCK + 400 - found[0]


async def test_prompts_of_a_request_that_begin_the_same_are_read_once(turns: Turns) -> None:
    cache = Cache()
    beams = [[*range(1000), number] for number in range(3)]
    lefts = await cache.chat(turns, *beams)
    assert len(cache.read) == 10
    assert [left for left, _ in lefts] == [1, 1, 1]


async def test_a_chats_parts_take_turns_with_large_requests(turns: Turns, engine: ByHand) -> None:
    cache = Cache()
    large = start(turns, "large", prompts(26))
    chat = asyncio.create_task(cache.chat(turns, list(range(500))))
    await settle()
    assert cache.read == []
    small = start(turns, "small", prompts(1))
    await settle()
    await engine.finish("large")
    await settle()
    assert cache.read == []  # the small one is at work
    await engine.finish("small")
    await small
    await until(lambda: cache.read == [100])
    while not large.done():
        if "large" in engine.waiting:
            await engine.finish("large")
        await settle()
    assert await chat == [(100, 400)]


async def test_small_prompts_of_a_long_request_share_turns(turns: Turns) -> None:
    with turns.generation(400, 0):
        generation = GENERATION.get()
    assert generation
    let_go, at_once = asyncio.Event(), 0

    async def ask() -> None:
        nonlocal at_once
        async with generation.part(30):
            at_once += 1
            await let_go.wait()

    asking = [asyncio.create_task(ask()) for _ in range(10)]
    await settle()
    assert at_once == 3
    let_go.set()
    await asyncio.gather(*asking)
    assert at_once == 10
    async with generation.part(100):  # the turn was given back
        pass


async def test_a_chats_prompts_count_until_the_last_is_computed(turns: Turns) -> None:
    admission = turns.admission
    for prompts_tokens, large in ((90, False), (300, True)):
        with turns.generation(prompts_tokens, 64):
            generation = GENERATION.get()
            assert generation
            counted = admission.large_tokens if large else admission.tokens - 64
            assert counted == prompts_tokens
            with generation.prompt(40) as one, generation.prompt(50) as other:
                one.close()
                assert admission.tokens + admission.large_tokens == prompts_tokens + 64
                other.close()
                assert (admission.tokens, admission.large_tokens) == (64, 0)
        assert admission.tokens == 0


async def test_a_chat_that_leaves_gives_the_turn_back(turns: Turns, engine: ByHand) -> None:
    small = start(turns, "small", prompts(1))
    await settle()
    chats = [asyncio.create_task(Cache().chat(turns, list(range(500)))) for _ in range(2)]
    await settle()
    for chat in chats:
        chat.cancel()
    await asyncio.gather(*chats, return_exceptions=True)
    await engine.finish("small")
    await small
    assert turns.admission.tokens == turns.admission.large_tokens == 0
    assert await Cache().chat(turns, list(range(500))) == [(100, 400)]


def test_slices_hold_everything_once_and_in_order() -> None:
    pairs = [*prompts(3, 1), *prompts(9, 2), *prompts(1, 3, prefix=300), *prompts(5, 1, tail=2)]
    for tokens in (1, 60, 100, 10_000):
        parts = list(slices(pairs, partial(int, tokens)))
        assert [prompt for part in parts for prompt in part] == pairs
        assert all(parts)
        known: set[int] = set()
        for part in parts:
            again = {id(prompt.prefix) for prompt in part} & known
            cached = sum(
                {id(p.prefix): len(p.prefix) for p in part if id(p.prefix) in again}.values()
            )
            assert cost(part) - cached <= tokens or len(part) == 1
            known |= {id(prompt.prefix) for prompt in part}
    assert len(list(slices(pairs, lambda: 10_000))) == 1
