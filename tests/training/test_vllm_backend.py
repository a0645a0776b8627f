"""The command with vLLM against the same with transformers."""

from typing import Any

import pytest


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
