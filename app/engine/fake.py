"""An engine without a model, with deterministic scores and configurable latency and failures.

It serves to test everything around an engine, and to measure what the service itself costs.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from math import log
from pathlib import Path

from app.engine.base import LabelScore
from app.errors import EngineUnavailable
from app.scoring.prompt import Prompt


class FakeEngine:
    """Scores are a hash of prompt and adapter: repeatable, and different for each pair."""

    max_prompt_tokens = 2047
    step_tokens = 1 << 20
    slice_tokens = 1 << 20

    def __init__(self, latency_seconds: float = 0.0) -> None:
        self.latency_seconds = latency_seconds
        self.label_mass = 0.9
        self.dead = False
        self.running = 0
        self.aborted = 0
        self.adapters: set[str] = set()

    @property
    def openai(self) -> None:
        return None

    async def start(self) -> None:
        self.dead = False

    async def stop(self) -> None:
        self.dead = True

    async def kill(self) -> None:
        self.dead = True

    async def ping(self) -> None:
        self.check_health()

    def check_health(self) -> None:
        if self.dead:
            raise EngineUnavailable("the engine has died")

    async def use_labels(self, token_ids: Sequence[int]) -> None:
        self.check_health()

    async def load_adapter(self, name: str, path: Path) -> None:
        self.adapters.add(name)

    async def unload_adapter(self, name: str) -> None:
        self.adapters.discard(name)

    async def score(
        self,
        prompts: Sequence[Prompt],
        labels: tuple[int, int],
        adapter: str | None,
        request_id: str,
    ) -> list[LabelScore]:
        self.check_health()
        self.running += len(prompts)
        try:
            await asyncio.sleep(self.latency_seconds)
        except asyncio.CancelledError:
            self.aborted += len(prompts)
            raise
        finally:
            self.running -= len(prompts)
        self.check_health()
        return [self._score(prompt, adapter) for prompt in prompts]

    def _score(self, prompt: Prompt, adapter: str | None) -> LabelScore:
        digest = hashlib.blake2b(repr((prompt.tokens, adapter)).encode(), digest_size=8).digest()
        share = (int.from_bytes(digest, "big") + 1) / (2**64 + 2)
        return LabelScore(
            log_yes=log(self.label_mass * share),
            log_no=log(self.label_mass * (1 - share)),
            prompt_tokens=len(prompt.tokens),
            cached_tokens=0,
        )
