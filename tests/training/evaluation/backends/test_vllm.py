"""The command with vLLM against the same with transformers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.adapter_folders import write_adapter


def test_vllm_scores_as_transformers_does(
    vllm_result: dict[str, Any], result: dict[str, Any]
) -> None:
    """In a process of its own, as the command runs; a LoRA adapter, float32."""
    (mine,), (_, theirs) = vllm_result["models"], result["models"]
    for name in ("auc", "mrr", "ndcg_at_10", "log_loss", "sure_mass"):
        expected = theirs["figures"][name]["value"]
        assert mine["figures"][name]["value"] == pytest.approx(expected, abs=2e-3), name
    for kind in ("missed_clicks", "false_hopes"):
        chances = [[error["probability"] for error in m["errors"][kind]] for m in (mine, theirs)]
        assert chances[0] == pytest.approx(chances[1], abs=1e-3)
    assert sum(text["count"] for text in mine["texts"]) == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, when vLLM imports it
def test_room_is_kept_for_an_adapters_largest_rank(tmp_path: Path) -> None:
    from app.scoring.profile import Profile
    from training.evaluation.backends.vllm import lora_options  # with vLLM, which takes seconds
    from training.tuning.sources import Source

    folder = write_adapter(tmp_path / "news", rank=8)
    source = Source(tmp_path, folder, "LORA", Profile())
    assert lora_options(source)["max_lora_rank"] == 8
    config = json.loads((folder / "adapter_config.json").read_text())
    config["rank_pattern"] = {"q_proj": 20}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    assert lora_options(source) == {"enable_lora": True, "max_loras": 1, "max_lora_rank": 32}
