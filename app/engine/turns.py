"""Turns at the engine: a large request gets in a slice at a time, so that others need not wait for
all of it."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace

from app.admission import Admission
from app.engine.base import Engine, LabelScore
from app.scoring.prompt import Prompt

CALM_S = 5.0
"""For how many seconds after a small request slices stay small."""
DEEP = 4096
"""After so many tokens of a prompt a slice is half as long, after twice as many a third: attention
makes each token cost more (measured with the embedded default on a CPU)."""
MIN_SLICE = 32
MAX_CACHED_SLICES = 4
"""Where a prompt's parts turn out to be in the cache already, the next ones are longer, up to so
many slices: else each would cost a step of the engine."""


class Turns:
    """Scores requests. One with more than `whole_tokens` tokens to compute is large: it is cut into
    slices of `slice_tokens`, also inside of a prompt that is longer. So are the prompts of chats
    and completions, see Generation.

    One slice is in the engine at a time. Before the next one, the small requests that have come in
    the meantime are finished, so a small request waits for one slice at most. Large requests take
    turns slice by slice. Their prefixes stay in the engine's cache between slices.

    Small slices take longer in all. So slices are half an engine step long while no small request
    has come for CALM_S.
    """

    def __init__(self, engine: Engine, admission: Admission) -> None:
        self.engine = engine
        self.admission = admission
        self.whole_tokens = self.slice_tokens = 0
        self._turn = asyncio.Lock()  # hands over in the order of arrival
        self._small: set[asyncio.Future[None]] = set()
        self._small_at = -math.inf

    def room(self) -> int:
        """How many tokens the next slice may have."""
        if self._small or time.monotonic() - self._small_at < CALM_S:
            return self.slice_tokens
        return max(self.slice_tokens, self.whole_tokens // 2)

    async def score(
        self,
        prompts: Sequence[Prompt],
        labels: tuple[int, int],
        adapter: str | None,
        request_id: str,
    ) -> list[LabelScore]:
        """As Engine.score. Raises Overloaded too."""
        tokens = cost(prompts)
        if tokens <= self.whole_tokens:
            with self.admission.work(tokens), self.at_work():
                return await self.engine.score(prompts, labels, adapter, request_id)
        scores: list[LabelScore] = []
        beginnings = Generation(self, ExitStack(), is_long=True)

        async def compute(end: int) -> int:
            part = [Prompt(tuple(first.tokens[:end]), (), 0)]
            (read,) = await self.engine.score(part, labels, adapter, request_id)
            return read.prompt_tokens - read.cached_tokens

        with self.admission.large_work(tokens):
            for part in slices(prompts, self.room):
                first = part[0]
                _, computed = await beginnings.read(first.tokens, compute, whole=False)
                await self.take()
                try:
                    found = await self.engine.score(part, labels, adapter, request_id)
                finally:
                    self.give_back()
                cached = max(0, found[0].cached_tokens - computed)
                scores += [replace(found[0], cached_tokens=cached), *found[1:]]
        return scores

    @contextmanager
    def generation(self, prompts: int, answers: int) -> Iterator[None]:
        """Count a chat or completion: the tokens of its answers until its end, those of its prompts
        until the engine has computed them. What it generates takes its turns.

        prompts, answers: how many tokens each of the two has, roughly. Raises Overloaded.
        """
        is_large = prompts > self.whole_tokens
        count = self.admission.large_work if is_large else self.admission.work
        with ExitStack() as counted:
            counted.enter_context(count(prompts))
            GENERATION.set(Generation(self, counted, is_long=prompts > self.slice_tokens))
            with self.admission.more_work(answers):
                yield

    async def take(self) -> None:
        """Wait for a turn at the engine, which must be given back."""
        await self._turn.acquire()
        try:
            if self._small:
                await asyncio.wait(self._small)
        except BaseException:
            self._turn.release()
            raise

    def give_back(self) -> None:
        self._turn.release()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Count a small request that the engine has."""
        done = asyncio.get_running_loop().create_future()
        self._small.add(done)
        try:
            yield
        finally:
            self._small.discard(done)
            self._small_at = time.monotonic()
            done.set_result(None)


class Generation:
    """What one chat or completion makes the engine read: the prompts, each in parts of at most
    `slice_tokens`, if there are more tokens than that in all."""

    def __init__(self, turns: Turns, counted: ExitStack, *, is_long: bool) -> None:
        """counted: counts the prompts' tokens until it is closed."""
        self._turns = turns
        self._counted = counted
        self._is_long = is_long
        self._unread = 0
        self._known: Sequence[int] = ()  # the beginning that was read last
        self._reading, self._door = asyncio.Lock(), asyncio.Lock()
        self._in_turn = self._room = 0

    @contextmanager
    def prompt(self, tokens: int) -> Iterator[ExitStack]:
        """Close what this yields once the engine has computed a prompt of so many tokens. After the
        last one that is in progress, the prompts' tokens no longer count."""
        self._is_long |= tokens > self._turns.slice_tokens
        self._unread += 1
        with ExitStack() as unread:
            unread.callback(self._computed)
            yield unread

    def _computed(self) -> None:
        self._unread -= 1
        if not self._unread:
            self._counted.close()

    async def read(
        self, tokens: Sequence[int], compute: Callable[[int], Awaitable[int]], *, whole: bool
    ) -> tuple[int, int]:
        """Let the engine read a prompt part by part, except the last part unless `whole`.

        compute: reads the prompt up to a place, and returns how many of its tokens the cache did
        not hold. Returns how many tokens are left, and how many were computed.
        """
        whole_slice = self._turns.slice_tokens
        if len(tokens) <= whole_slice and not whole:
            return len(tokens), 0
        async with self._reading if len(tokens) > whole_slice else nullcontext():
            last = len(tokens) if whole else len(tokens) - 1
            place = min(last, shared(tokens, self._known))
            computed, longer = 0, 1
            while place < last and (whole or len(tokens) - place > whole_slice):
                step = after(place, self._turns.room())
                end = min(place + longer * step, last)
                async with self.part(min(end - place, step)):
                    new = await compute(end)
                is_cached = new < (end - place) / 2  # all but the cache's last block
                longer = min(2 * longer, MAX_CACHED_SLICES) if is_cached else 1
                keeps_nothing = place > 0 and new == end
                place, computed = end, computed + new
                self._known = tokens[:end]
                if keeps_nothing and not whole:  # of a cache that is off
                    break
            return len(tokens) - place, computed

    @asynccontextmanager
    async def part(self, tokens: int) -> AsyncIterator[None]:
        """Wait until the engine should get a part of so many tokens, and note when it is done.

        Small parts that want to begin at the same time share a turn.
        """
        if not self._is_long:
            with self._turns.at_work():
                yield
            return
        async with self._door:
            if not self._in_turn or tokens > self._room:
                await self._turns.take()
                self._room = self._turns.room()
            self._room -= tokens
            self._in_turn += 1
        try:
            yield
        finally:
            self._in_turn -= 1
            if not self._in_turn:
                self._turns.give_back()


GENERATION: ContextVar[Generation | None] = ContextVar("GENERATION", default=None)
"""Of the request at work. vLLM's own code lies between the route that knows the request and the
engine that reads its prompts."""


def after(place: int, tokens: int) -> int:
    """How long a slice is that begins at a place in a prompt, in whole blocks of MIN_SLICE; where
    the prompt begins it has `tokens`."""
    if place < DEEP // 4:
        return tokens
    return max(int(tokens * DEEP / (DEEP + place)) // MIN_SLICE * MIN_SLICE, MIN_SLICE)


def shared(tokens: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(tokens, others, strict=False))
    differ = (place for place, (one, other) in pairs if one != other)
    return next(differ, min(len(tokens), len(others)))


def cost(prompts: Sequence[Prompt]) -> int:
    """The most tokens that the engine has to compute. A prefix that prompts share counts once."""
    prefixes = {id(prompt.prefix): len(prompt.prefix) for prompt in prompts}
    return sum(prefixes.values()) + sum(len(prompt.tail) for prompt in prompts)


def slices(prompts: Sequence[Prompt], room: Callable[[], int]) -> Iterator[list[Prompt]]:
    """Consecutive parts of at most `room()` tokens to compute, or of one prompt that has more. Such
    a prompt comes first in its part. A prefix counts in the first part that needs it; later ones
    find it in the cache. room: asked when a part begins."""
    part: list[Prompt] = []
    size, prefixes, tokens = 0, set[int](), 0
    for prompt in prompts:
        is_new = id(prompt.prefix) not in prefixes
        new = len(prompt.tail) + (len(prompt.prefix) if is_new else 0)
        if part and size + new > tokens:
            yield part
            part, size = [], 0
        if not part:
            tokens = room()
        prefixes.add(id(prompt.prefix))
        part.append(prompt)
        size += new
    yield part
