"""vLLM's engine client, which forgets the requests that it could not send to its engine."""

from typing import Any

from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from app.errors import BadRequest, EngineUnavailable, ServiceError

ENGINE_ERRORS = (EngineDeadError, EngineGenerateError)
DIED = "the engine has died"


class TidyLLM(AsyncLLM):  # type: ignore[misc]  # vLLM is not typed here
    async def _add_request(self, request: Any, prompt: Any, parent: Any, *rest: Any) -> None:
        """vLLM registers a request before it encodes it for the engine's process. When that fails,
        or its task is cancelled, it would keep the request and its prompt for good."""
        try:
            await super()._add_request(request, prompt, parent, *rest)
        except BaseException:
            known = request if parent is None else parent
            await self.abort(known.request_id, internal=True)
            raise


def engine_failure(llm: AsyncLLM, error: BaseException) -> ServiceError | None:
    """What one of ENGINE_ERRORS means to the client, or None if that is not known: an engine that
    still runs failed on this request only."""
    if llm.errored or isinstance(error, EngineDeadError):
        return EngineUnavailable(DIED)
    if isinstance(error.__cause__, ValueError | TypeError | OverflowError):
        return BadRequest(f"the engine can't read this request: {error.__cause__}")
    return None
