"""The service: all its parts, how they start and stop, and whether they are ready."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from app.admission import Admission
from app.engine.base import Engine
from app.errors import EngineUnavailable, StartupError
from app.feedback.reports import Reports
from app.knowledge.encoders import Encoders
from app.likeness.folder import EncoderError
from app.live.live import Live
from app.models.adapters import Adapters
from app.models.aliases import Aliases
from app.models.desired import Desired
from app.models.following import Following
from app.models.loading import PROBE, PROBE_TARGET
from app.models.local import LocalAdapters
from app.models.registry import Choice, ModelRegistry
from app.observability.progress import step
from app.observability.tracing import exporting
from app.recommender import Recommender, StoryTooLong, started
from app.retrieval.retrieval import Retrieval
from app.settings import Settings
from app.store.store import Store


@dataclass
class Service:
    """All parts of the service, complete from the beginning.

    It is the only thing on `app.state`.
    """

    settings: Settings
    models: ModelRegistry
    engine: Engine
    admission: Admission
    desired: Desired
    local: LocalAdapters
    adapters: Adapters
    aliases: Aliases
    following: Following
    store: Store
    live: Live
    encoders: Encoders
    retrieval: Retrieval
    reports: Reports
    recommender: Recommender
    has_scored: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the engine, load the adapters and get a first score from each model. At the end, or
        if any of this fails, stop what was started. Raises StartupError."""
        async with AsyncExitStack() as stack:
            stack.callback(self.store.stop)
            self.store.start()  # first, so that a database that can't be opened fails at once
            stack.callback(self.encoders.stop)
            self.encoders.start()
            stack.callback(self.live.stop)
            self.live.start()
            stack.callback(self.retrieval.following.stop)
            self.retrieval.following.start()
            await self.desired.start()
            stack.push_async_callback(self.engine.stop)
            with started(self._load_encoders()) as encoders:
                with step(f"model {self.settings.base_name} from {self.settings.model}"):
                    await self.engine.start()
                await encoders
            limits = self.settings.limits
            self.admission.allow_tokens(limits.max_pending_tokens or 2 * self.engine.step_tokens)
            turns, engine = self.recommender.turns, self.engine
            turns.whole_tokens = engine.step_tokens
            turns.slice_tokens = limits.slice_tokens or engine.slice_tokens
            stack.push_async_callback(self.local.stop)
            await self.local.start()
            self.aliases.start()
            await self._score_once()
            stack.push_async_callback(self.following.stop)
            await self.following.start()
            with exporting(self.settings.trace_endpoint):
                yield

    async def _load_encoders(self) -> None:
        """Those of the base model, in another thread while the engine starts. Raises
        StartupError."""
        ranking = self.models.base.ranking
        if ranking is not None:
            try:
                await ranking.prove()
            except EncoderError as error:
                raise StartupError(f"{self.models.base.name}: {error}") from None

    async def _score_once(self) -> None:
        for model in self.models:
            with step(f"first score of {model.name}"):
                try:
                    pairs = [(PROBE, [PROBE_TARGET])]
                    await self.recommender.predict(Choice(model, None), pairs, "start")
                except (StoryTooLong, EncoderError) as error:
                    raise StartupError(f"{model.name} can't score a story: {error}") from None
        self.has_scored = True

    def check_ready(self) -> None:
        """Raises EngineUnavailable before the first score, while stopping, and once the engine is
        dead."""
        if self.admission.draining.is_set():
            raise EngineUnavailable("the service is stopping")
        if not self.has_scored:
            raise EngineUnavailable("the model is still loading")
        self.engine.check_health()
