"""What vLLM is started with, wherever it runs."""

from pathlib import Path

import pytest

from app.engine.lora import LoraError
from app.engine.options import lora_room, vllm_options


def test_the_operators_options_win_but_not_over_the_model() -> None:
    given = {"max_loras": 9, "enable_prefix_caching": False, "model": "other"}
    options = vllm_options(Path("m"), False, {"enable_lora": True, "max_loras": 2}, given)
    assert options == {
        "enable_prefix_caching": False,
        "enable_lora": True,
        "max_loras": 9,
        "model": "m",
        "worker_extension_cls": "app.engine.worker.Worker",
    }


@pytest.mark.parametrize(("ranks", "reserved"), [([1], 8), ([8, 9], 16), ([512, 4], 512)])
def test_room_is_kept_for_the_largest_rank(tmp_path: Path, ranks: list[int], reserved: int) -> None:
    room = lora_room(tmp_path, "cpu", ranks, 3)
    assert room == {"enable_lora": True, "max_loras": 3, "max_lora_rank": reserved}


def test_a_rank_beyond_what_vllm_serves_is_refused(tmp_path: Path) -> None:
    """An adapter's `rank_pattern` may hold one, though its `r` is in range."""
    with pytest.raises(LoraError, match="ranks up to 512, not 600: merge it first"):
        lora_room(tmp_path, "cpu", [8, 600], 1)
