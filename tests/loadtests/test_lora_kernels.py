"""loadtests.lora_kernels without a GPU: vLLM reads what it writes, and what the service ships."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from app.engine.lora import LORA_KERNELS, use_lora_kernels
from loadtests import lora_kernels
from loadtests.lora_kernels import (
    EXPAND,
    SHRINK,
    STEP_SIZES,
    Product,
    best,
    candidates,
    products,
)
from loadtests.training.cost import QWEN3_8B
from tests.support.models import SMOLLM2

H100 = "NVIDIA H100 80GB HBM3"
NAME = "NVIDIA_H100_80GB_HBM3"
WEIGHTS = "model.safetensors"
FOLDER = "VLLM_TUNED_CONFIG_FOLDER"
# of torch, when vLLM imports it: vLLM, which takes seconds, is imported by the tests that read
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def qwen3(tmp_path: Path) -> Path:
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], **QWEN3_8B}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.fixture
def on_h100(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: H100)
    monkeypatch.setenv(FOLDER, "")
    monkeypatch.delenv(FOLDER)  # what a test sets goes with it
    forget()
    yield
    forget()


def forget() -> None:
    from vllm.lora.ops.triton_ops.utils import get_lora_op_configs, load_lora_op_config

    get_lora_op_configs.cache_clear()
    load_lora_op_config.cache_clear()


def read(product: Product, tokens: int, adapters: int = 2) -> dict[str, int | None]:
    """As vLLM's kernels look it up."""
    from vllm.lora.ops.triton_ops.utils import get_lora_op_configs

    expand = product.kernel == EXPAND
    width = max(product.outputs) if expand else product.width
    kernel, slices = ("expand" if expand else "shrink"), len(product.outputs)
    add = True if expand else None
    found = get_lora_op_configs(kernel, adapters + 1, tokens, width, product.rank, slices, add)
    return dict(found)


def test_the_products_of_a_layer_as_vllm_merges_them(qwen3: Path) -> None:
    found = {(one.kernel, *one.key) for one in products(qwen3, 8)}
    assert found == {
        (SHRINK, "3", "4096", "8"),
        (SHRINK, "2", "4096", "8"),
        (SHRINK, "1", "4096", "8"),
        (SHRINK, "1", "12288", "8"),
        (EXPAND, "3", "8", "4096"),
        (EXPAND, "2", "8", "12288"),
        (EXPAND, "1", "8", "4096"),
    }
    merged = next(one for one in products(qwen3, 8) if one.key == ("3", "8", "4096"))
    assert merged.outputs == (4096, 1024, 1024)
    assert merged.bytes_moved(10) == 10 * 6144 * 4  # read and written, in bfloat16


def test_vllm_reads_the_shipped_blocks_on_their_gpu(qwen3: Path, on_h100: None) -> None:
    every = products(qwen3, 8)
    plain = {(one, tokens): read(one, tokens) for one in every for tokens in (200, 8192)}
    forget()
    use_lora_kernels(H100, SMOLLM2)
    assert os.environ[FOLDER] == str(LORA_KERNELS)
    for (product, tokens), blocks in plain.items():
        shipped = read(product, tokens)
        assert shipped != blocks, "vLLM's defaults"
        assert shipped in list(candidates(product))
        assert read(product, tokens, adapters=5) == shipped


def test_another_gpu_and_an_operators_folder_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(FOLDER, "/mine")
    use_lora_kernels(H100, SMOLLM2)
    assert os.environ[FOLDER] == "/mine"
    monkeypatch.delenv(FOLDER)
    for other in ("cpu", "NVIDIA H100", "NVIDIA A100-SXM4-80GB"):
        use_lora_kernels(other, SMOLLM2)
        assert FOLDER not in os.environ, other


@pytest.mark.parametrize(
    "matrix",
    [
        *("self_attn.qkv_proj.weight", "mlp.experts.0.gate_proj.weight"),
        *("linear_attn.in_proj_qkvz.weight", "mlp.gate.weight"),
    ],
)
def test_a_base_of_other_matrices_gets_vllms_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, matrix: str
) -> None:
    """vLLM's lookup fails, and with it the engine, where a file lacks a number of slices."""
    monkeypatch.setenv(FOLDER, "")
    monkeypatch.delenv(FOLDER)
    use_lora_kernels(H100, tmp_path)  # no weights
    plain = {
        "model.layers.0.self_attn.q_proj.weight": torch.zeros(2, 2),
        "model.layers.0.mlp.up_proj.weight": torch.zeros(2, 2),
        "model.layers.0.input_layernorm.weight": torch.zeros(2),
        "model.embed_tokens.weight": torch.zeros(2, 2),
    }
    save_file(plain | {f"model.layers.1.{matrix}": torch.zeros(2, 2)}, tmp_path / WEIGHTS)
    use_lora_kernels(H100, tmp_path)
    assert FOLDER not in os.environ
    save_file(plain, tmp_path / WEIGHTS)
    use_lora_kernels(H100, tmp_path)
    assert os.environ[FOLDER] == str(LORA_KERNELS)


def test_the_least_time_over_all_steps_is_taken_and_wrong_results_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    product = Product(SHRINK, 64, (32,), 8)
    wrong, slow, first = list(candidates(product))[:3]
    times = {2048: {"slow": 5.0, "first": 2.0}, 8192: {"slow": 9.0, "first": 30.0}}

    class Case:
        def __init__(self, _: Product, tokens: int) -> None:
            self.tokens = tokens

        def right(self, blocks: lora_kernels.Blocks) -> bool:
            return blocks in (slow, first)

        def microseconds(self, blocks: lora_kernels.Blocks | None) -> float:
            if blocks is None:
                return 10.0
            return times[self.tokens]["slow" if blocks == slow else "first"]

    monkeypatch.setattr(lora_kernels, "Case", Case)
    # 0.5 + 0.9 of the defaults' time against 0.2 + 3.0
    assert best(product, (2048, 8192)) == (slow, [(2048, 10.0, 5.0), (8192, 10.0, 9.0)])
    assert wrong != slow
    monkeypatch.setattr(Case, "right", lambda *_: False)
    with pytest.raises(SystemExit, match="no candidate is right"):
        best(product, (2048,))


def test_what_the_command_writes_is_what_vllm_reads(
    qwen3: Path,
    on_h100: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen: dict[tuple[Product, int], Any] = {}

    def pick(
        product: Product, steps: tuple[int, ...]
    ) -> tuple[Any, list[tuple[int, float, float]]]:
        blocks = list(candidates(product))[len(chosen)]
        chosen.update({(product, tokens): blocks for tokens in steps})
        return blocks, [(tokens, 8.0, 2.0) for tokens in steps]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(lora_kernels, "compile_all", lambda *_: None)
    monkeypatch.setattr(lora_kernels, "best", pick)
    out = tmp_path / "new" / "kernels"
    for ranks in ("8",), ("64", "16"):  # what was found before stays
        command = ["x", "--model", str(qwen3), "--out", str(out), "--ranks", *ranks]
        monkeypatch.setattr(sys, "argv", command)
        assert lora_kernels.main() == 0
        shown = capsys.readouterr()
        assert shown.err == f"written: {out}/{NAME}_SHRINK.json, {out}/{NAME}_EXPAND_TRUE.json\n"
        assert len(shown.out.splitlines()) == 2 + len(ranks) * 7 * sum(map(len, STEP_SIZES))
    monkeypatch.setenv(FOLDER, str(out))
    assert len(chosen) == 3 * 7 * sum(map(len, STEP_SIZES))
    for (product, tokens), blocks in chosen.items():
        assert read(product, tokens) == blocks


def test_without_a_gpu_or_a_model_it_says_so(
    qwen3: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--model", str(qwen3 / "none")])
    for there, message in ((False, "needs a GPU"), (True, "--model: no config.json in")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert lora_kernels.main() == 2
        assert message in capsys.readouterr().err
