"""Turns at the engine: a large request gets in a slice at a time, so that others need not wait for
all of it."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from app.admission import Admission
from app.engine.base import Engine, LabelScore
from app.scoring.prompt import Prompt


class Turns:
    """Scores requests. One with more than `whole_tokens` tokens to compute is large: it is cut into
    slices of `slice_tokens`.

    One slice is in the engine at a time. Before the next one, the small requests that have come in
    the meantime are finished, so a small request waits for one slice at most. Large requests take
    turns slice by slice. Their prefixes stay in the engine's cache between slices.
    """

    def __init__(self, engine: Engine, admission: Admission) -> None:
        self.engine = engine
        self.admission = admission
        self.whole_tokens = self.slice_tokens = 0
        self._turn = asyncio.Lock()  # hands over in the order of arrival
        self._small: set[asyncio.Future[None]] = set()

    async def score(
        self,
        prompts: Sequence[Prompt],
        labels: tuple[int, int],
        adapter: str | None,
        request_id: str,
    ) -> list[LabelScore]:
        """As Engine.score. Raises Overloaded too."""
        tokens = cost(prompts)
        if tokens <= self.whole_tokens or len(prompts) == 1:
            with self.admission.work(tokens), self._at_work():
                return await self.engine.score(prompts, labels, adapter, request_id)
        scores: list[LabelScore] = []
        with self.admission.large_work(tokens):
            for part in slices(prompts, self.slice_tokens):
                async with self._turn:
                    if self._small:
                        await asyncio.wait(self._small)
                    scores += await self.engine.score(part, labels, adapter, request_id)
        return scores

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Count a small request that the engine has."""
        done = asyncio.get_running_loop().create_future()
        self._small.add(done)
        try:
            yield
        finally:
            self._small.discard(done)
            done.set_result(None)


def cost(prompts: Sequence[Prompt]) -> int:
    """The most tokens that the engine has to compute. A prefix that prompts share counts once."""
    prefixes = {id(prompt.prefix): len(prompt.prefix) for prompt in prompts}
    return sum(prefixes.values()) + sum(len(prompt.tail) for prompt in prompts)


def slices(prompts: Sequence[Prompt], tokens: int) -> Iterator[list[Prompt]]:
    """Consecutive parts of at most `tokens` tokens to compute, or of one prompt that has more. A
    prefix counts in the first part that needs it; later ones find it in the cache."""
    part: list[Prompt] = []
    size, prefixes = 0, set[int]()
    for prompt in prompts:
        is_new = id(prompt.prefix) not in prefixes
        new = len(prompt.tail) + (len(prompt.prefix) if is_new else 0)
        if part and size + new > tokens:
            yield part
            part, size = [], 0
        prefixes.add(id(prompt.prefix))
        part.append(prompt)
        size += new
    yield part
