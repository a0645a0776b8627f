"""The service: all its parts, how they start and stop, and whether they are ready."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from app.admission import Admission
from app.engine.base import Engine
from app.engine.supervision import Supervision
from app.errors import EngineStarting, EngineUnavailable, ModelNotFound, StartupError
from app.feedback.reports import Reports
from app.knowledge.encoders import Encoders
from app.likeness.folder import EncoderError
from app.live.live import Live
from app.models.adapters import Adapters
from app.models.aliases import Aliases
from app.models.desired import Desired
from app.models.following import Following
from app.models.loading import score_once
from app.models.local import LocalAdapters
from app.models.registry import ModelRegistry
from app.observability.progress import step
from app.observability.tracing import exporting
from app.recommender import Recommender
from app.retrieval.retrieval import Retrieval
from app.scoring.prompt import PromptTooLong
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
    supervision: Supervision = field(init=False)

    def __post_init__(self) -> None:
        restarts, hang_s = self.settings.engine_restarts, self.settings.engine_hang_s
        self.supervision = Supervision(self.engine, self._begin, self._score_once, restarts, hang_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything, and stop it at the end or if any of it fails. Raises StartupError."""
        async with self.opened():
            await self.supervision.start()
            yield

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Start what needs no engine; from then on, `supervision` can start the engine. At the end,
        stop all that was started. Raises StartupError."""
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
            for stop in (self.engine.stop, self.local.stop, self.following.stop):
                stack.push_async_callback(stop)
            with exporting(self.settings.trace_endpoint):
                yield

    async def _begin(self) -> None:
        """Start the engine, load the adapters and get a first score from each model.

        The encoders come first: PyTorch can't be imported in two threads at once.
        """
        await self._load_encoders()
        await self.engine.use_labels(self.models.base.labels)
        with step(f"model {self.settings.base_name} from {self.settings.model}"):
            await self.engine.start()
        limits, turns, engine = self.settings.limits, self.recommender.turns, self.engine
        turns.whole_tokens = engine.step_tokens
        turns.slice_tokens = limits.slice_tokens or engine.slice_tokens
        self.admission.allow_tokens(limits.max_pending_tokens or 2 * engine.step_tokens)
        await self.local.start()
        self.aliases.start()
        await self._score_once()
        await self.following.start()

    async def _load_encoders(self) -> None:
        """Those of the base model. Raises StartupError."""
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
                    await score_once(self.engine, model)
                except PromptTooLong as error:
                    raise StartupError(f"{model.name} can't score a story: {error}") from None

    @property
    def can_degrade(self) -> bool:
        """Whether requests that name no model can be answered without the engine."""
        try:
            usual = self.models.choose(None, "")
        except ModelNotFound:
            return False
        return self.settings.degraded and usual.ranking is not None

    def check_alive(self) -> None:
        """Raises EngineUnavailable once the engine is dead and is not started again."""
        state, is_watching = self.supervision.state, self.supervision.is_watching
        if state == "failed" or (state == "ready" and not is_watching):
            self.engine.check_health()

    def check_loaded(self) -> None:
        """Raises EngineStarting until all models have been loaded."""
        if self.supervision.state == "loading":
            raise EngineStarting("the language model is still being loaded")

    def check_ready(self, *, degraded: bool = False) -> None:
        """Raises EngineUnavailable while the service stops, and while the language model does not
        answer. degraded: answers without it will do."""
        if self.admission.draining.is_set():
            raise EngineUnavailable("the service is stopping")
        if not (degraded and self.can_degrade):
            self.check_loaded()
            self.engine.check_health()
