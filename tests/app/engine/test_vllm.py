"""VllmEngine around an AsyncLLM that fails where a real one can't be made to."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.engine.base import Engine
from app.errors import StartupError
from app.settings import Settings
from tests.support.four_bits import GPTQ
from tests.support.models import SMOLLM2, make_tiny_qwen3

# Of torch, when vLLM imports it.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CREATE = "app.engine.vllm.VllmOpenAI.create"


def make_engine() -> Engine:
    from app.engine.vllm import VllmEngine

    return VllmEngine(Settings(model=SMOLLM2))


class StubLLM:
    """Keeps what is asked of it; loading an adapter takes until `loaded` is set."""

    def __init__(self) -> None:
        self.is_shut_down = False
        self.adapters: set[int] = set()
        self.loading, self.loaded = asyncio.Event(), asyncio.Event()

    def shutdown(self) -> None:
        self.is_shut_down = True

    async def add_lora(self, request: Any) -> bool:
        self.adapters.add(request.lora_int_id)
        self.loading.set()
        await self.loaded.wait()
        return True

    async def remove_lora(self, number: int) -> bool:
        self.adapters.discard(number)
        return True


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> StubLLM:
    stub = StubLLM()
    monkeypatch.setattr("app.engine.vllm.AsyncLLM.from_engine_args", lambda *_, **__: stub)
    return stub


async def test_the_engine_is_stopped_when_its_openai_api_does_not_start(
    llm: StubLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("no chat template")

    monkeypatch.setattr(CREATE, fail)
    with pytest.raises(RuntimeError, match="no chat template"):
        await make_engine().start()
    assert llm.is_shut_down


async def test_an_adapter_whose_loading_is_cancelled_is_taken_out_again(
    llm: StubLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ready(*_: Any) -> None: ...

    monkeypatch.setattr(CREATE, ready)
    engine = make_engine()
    await engine.start()
    loading = asyncio.create_task(engine.load_adapter("news@1", Path("news")))
    await llm.loading.wait()
    assert llm.adapters
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert not llm.adapters


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"desc_act": True}, r"GPTQ group activation ordering \(desc_act=True\)"),
        ({"sym": False}, "Unsupported quantization config: bits=4, sym=False"),
        ({"bits": 8}, "GPTQ weights of 8 bits; on a CPU, vLLM serves those of 4"),
    ],
)
async def test_what_vllm_can_not_serve_quantized_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    from app.engine.vllm import VllmEngine

    model = make_tiny_qwen3(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["quantization_config"] = GPTQ | change
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(StartupError, match=reason):
        await VllmEngine(Settings(model=model)).start()
