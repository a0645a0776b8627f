"""An engine that can be replaced by a new one of its kind while the service runs."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from app.engine.base import Engine, LabelScore, OpenAIAPI
from app.engine.threads import in_thread
from app.errors import EngineStarting, EngineUnavailable
from app.scoring.prompt import Prompt


class ReplaceableEngine:
    """What the service knows as its engine. While there is none, everything but `start`, `stop` and
    `kill` raises EngineUnavailable, or EngineStarting before the first.

    A new engine gets the labels and adapters of the one before it, and answers only then.
    """

    def __init__(self, make: Callable[[], Engine]) -> None:
        """make: called by a thread for each new engine."""
        self._make = make
        self._engine: Engine | None = None
        self._had_one = False
        self._labels: dict[tuple[int, ...], None] = {}
        self._adapters: dict[str, Path] = {}

    @property
    def current(self) -> Engine:
        if self._engine is None:
            if self._had_one:
                raise EngineUnavailable("the engine has died and is being started again")
            raise EngineStarting("the language model is still being loaded")
        return self._engine

    @property
    def max_prompt_tokens(self) -> int:
        return self.current.max_prompt_tokens

    @property
    def openai(self) -> OpenAIAPI | None:
        return self.current.openai

    @property
    def step_tokens(self) -> int:
        return self.current.step_tokens

    @property
    def slice_tokens(self) -> int:
        return self.current.slice_tokens

    async def start(self) -> None:
        """Start an engine, the first one or the next. Raises as the engine's `start`, and
        AdapterRejected or EngineUnavailable where it does not take the adapters of the last one."""
        engine = await in_thread(self._make)
        try:
            await engine.start()
            for labels in self._labels:
                await engine.use_labels(labels)
            await self._load_all(engine)
        except BaseException:
            await engine.kill()
            raise
        self._engine, self._had_one = engine, True

    async def _load_all(self, engine: Engine) -> None:
        """Some may be unloaded in the meantime."""
        loaded = dict(self._adapters)
        for name, path in loaded.items():
            await engine.load_adapter(name, path)
        while gone := loaded.keys() - self._adapters.keys():
            name = gone.pop()
            del loaded[name]
            await engine.unload_adapter(name)

    async def stop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()

    async def kill(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.kill()

    def check_health(self) -> None:
        self.current.check_health()

    async def ping(self) -> None:
        await self.current.ping()

    async def use_labels(self, token_ids: Sequence[int]) -> None:
        """Before the start, the engine will use them from its beginning."""
        self._labels[tuple(token_ids)] = None
        if self._engine is not None:
            await self._engine.use_labels(token_ids)

    async def load_adapter(self, name: str, path: Path) -> None:
        await self.current.load_adapter(name, path)
        self._adapters[name] = path

    async def unload_adapter(self, name: str) -> None:
        """A dead engine has lost its adapters anyway."""
        self._adapters.pop(name, None)
        if self._engine is not None:
            with suppress(EngineUnavailable):
                await self._engine.unload_adapter(name)

    async def score(
        self,
        prompts: Sequence[Prompt],
        labels: tuple[int, int],
        adapter: str | None,
        request_id: str,
    ) -> list[LabelScore]:
        if adapter is not None and adapter not in self._adapters:
            raise EngineStarting(f"{adapter} is still being loaded")
        return await self.current.score(prompts, labels, adapter, request_id)
