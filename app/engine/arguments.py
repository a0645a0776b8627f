"""What vLLM's engine is started with, from the service's settings."""

import dataclasses
import difflib
from typing import Any

from vllm.config import CompilationMode
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from app.engine.lora import LoraError, read_lora
from app.engine.options import lora_room, vllm_options
from app.errors import StartupError
from app.settings import Settings

# On a CPU vLLM marks tokens of the base by slot -1 and then indexes with it: in a batch that mixes
# base and adapters the base would get the last slot's weights. That slot stays empty (zeros).
# Seen with vLLM 0.32 (lora/ops/torch_ops/lora_ops.py); tests/integration/test_lora.py shows it.
EMPTY_LORA_SLOTS = 1 if current_platform.is_cpu() else 0
CONSTRAINT_BACKEND = "xgrammar"
"""What follows the constraints of OpenAI requests. vLLM's own choice, `auto`, checks each request
with the first backend that takes it, but computes all with the backend of the first request: what
only another one understands then fails in the engine."""
OURS = {
    "model": "FRONTPAGE_MODEL",
    "served_model_name": "FRONTPAGE_MODEL_NAME",
    "worker_extension_cls": "nothing: the service needs it for itself",
}


class EngineArgs(AsyncEngineArgs):  # type: ignore[misc]  # vLLM is not typed here
    """Compiles on a CPU with room for adapters, too, which vLLM does not; see compiled_lora."""

    def create_engine_config(self, *args: Any, **kwargs: Any) -> Any:
        config = super().create_engine_config(*args, **kwargs)
        if current_platform.is_cpu() and not config.model_config.enforce_eager:
            config.compilation_config.mode = CompilationMode.DYNAMO_TRACE_ONCE
        return config


def engine_options(settings: Settings) -> dict[str, Any]:
    """vLLM's options: ours by default, the user's on top. StartupError names an unknown one."""
    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    for name in settings.engine:
        if name in OURS:
            raise StartupError(f"engine option {name!r} is set by {OURS[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StartupError(f"engine option {name!r} is not one of vLLM's{hint}")
    given = {
        "use_tqdm_on_load": False,
        "structured_outputs_config": {"backend": CONSTRAINT_BACKEND},
        **settings.engine,
    }
    on_cpu = current_platform.is_cpu()
    options = vllm_options(settings.model, on_cpu, lora_options(settings), given)
    options["served_model_name"] = [settings.base_name]
    return {name: value for name, value in options.items() if name in known}


def lora_options(settings: Settings) -> dict[str, Any]:
    """Room for the settings' adapters and, if more can be loaded while serving, for those and for
    one that takes another's place. Raises StartupError for a rank beyond what vLLM serves."""
    room = settings.room_for_adapters
    if not room:
        return {}
    ranks = [read_lora(path).rank for path in settings.adapters.values()]
    if settings.adapter_root is not None:
        ranks.append(settings.max_adapter_rank)
        room += 1
    device = current_platform.get_device_name()
    try:
        return lora_room(settings.model, device, ranks, room + EMPTY_LORA_SLOTS)
    except LoraError as error:
        raise StartupError(f"adapters: {error}") from error
