"""Find the block sizes with which vLLM's LoRA kernels run fastest on this GPU.

  python -m loadtests.lora_kernels --model models/base

vLLM reads block sizes from a folder (VLLM_TUNED_CONFIG_FOLDER; its README_TUNING.md describes the
format) but ships none: its defaults are not tuned for any GPU. The service points vLLM at
app/engine/lora_kernels/, where this command writes. A GPU without a file there gets the defaults.
Each candidate is timed on the matrices of --model with two adapters in one step. Its result is
compared with the plain product, and the candidate is dropped if they differ. Entries in the files
for other models and ranks are kept. Prints the gains. A rank takes about two minutes.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from app.engine.lora import LORA_KERNELS, lora_kernels_file
from training.folders import write_whole

SHRINK, EXPAND = "SHRINK", "EXPAND_TRUE"
"""The kernels, as vLLM names their files: shrink computes x A, expand adds that times B to y."""
STEP_SIZES = ((256,), (2048, 8192))
"""Tokens per step. Sizes in one group share their blocks, so that fewer kernels are compiled."""
ADAPTERS = 2
ADAPTER_KEY = str(ADAPTERS + 1)
"""The key in the files. vLLM takes the nearest one for any number of adapters, so this one."""
MAX_SUMS_PER_THREAD = 128
"""More do not fit a thread's registers."""
ADAPTER_RUN_TOKENS = 346
"""How many consecutive tokens use the same adapter: about a reader's prompt."""

Blocks = dict[str, int | None]


@dataclass(frozen=True)
class Product:
    """One kernel call, from `width` (shrink) or the rank (expand) to outputs side by side."""

    kernel: str
    width: int
    outputs: tuple[int, ...]
    rank: int

    @property
    def key(self) -> tuple[str, str, str]:
        """By what vLLM looks it up in addition to the tokens: slices, inner and outer size."""
        inner, outer = self.width, self.rank
        if self.kernel == EXPAND:
            inner, outer = self.rank, max(self.outputs)
        return str(len(self.outputs)), str(inner), str(outer)

    def bytes_moved(self, tokens: int) -> int:
        """The minimum: activations once per slice, or the outputs read and written."""
        moved = 2 * sum(self.outputs) if self.kernel == EXPAND else self.width * len(self.outputs)
        return 2 * tokens * moved


def main() -> int:
    options = parse()
    import torch

    if not torch.cuda.is_available():
        print("error: this needs a GPU; on a CPU vLLM uses other kernels", file=sys.stderr)
        return 2
    if not (options.model / "config.json").is_file():
        print(f"error: --model: no config.json in {options.model}", file=sys.stderr)
        return 2
    device = torch.cuda.get_device_name()
    files = {one: options.out / lora_kernels_file(device, one) for one in (SHRINK, EXPAND)}
    found = {kernel: read_found(file) for kernel, file in files.items()}
    print("| kernel | rank | slices | inner | outer | tokens | default µs | found µs | GB/s |")
    print("|---" * 9 + "|")
    for rank in options.ranks:
        wanted = products(options.model, rank)
        compile_all(wanted, options.processes)
        for product in wanted:
            for steps in STEP_SIZES:
                tune(product, steps, found[product.kernel])
        for kernel, file in files.items():
            text = json.dumps({ADAPTER_KEY: found[kernel]}, indent=1)
            write_whole(file, text + "\n")
    print(f"written: {', '.join(map(str, files.values()))}", file=sys.stderr)
    return 0


def tune(product: Product, steps: tuple[int, ...], found: dict[str, Any]) -> None:
    """Find the best blocks for these steps, print the gains, and add the blocks to `found`."""
    blocks, rows = best(product, steps)
    for tokens, plain, tuned in rows:
        speed = product.bytes_moved(tokens) / tuned / 1e3
        cells = (product.kernel, product.rank, *product.key, tokens)
        print(f"| {' | '.join(map(str, cells))} ", end="")
        print(f"| {plain:.1f} | {tuned:.1f} | {speed:.0f} |", flush=True)
    slices, inner, outer = product.key
    by_tokens = found.setdefault(slices, {})
    for tokens in steps:
        sizes = by_tokens.setdefault(str(tokens), {}).setdefault(inner, {})
        sizes[outer] = blocks


def read_found(file: Path) -> dict[str, Any]:
    """The file's blocks by slices, tokens, inner size and outer size; empty without a file."""
    return dict(json.loads(file.read_bytes())[ADAPTER_KEY]) if file.is_file() else {}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.lora_kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, help="folder with a config.json")
    parser.add_argument(
        "--ranks", type=int, nargs="+", default=[8, 16, 64], help="LoRA ranks (default: 8 16 64)"
    )
    parser.add_argument("--processes", type=int, default=8, help="processes that compile kernels")
    parser.add_argument("--out", type=Path, default=LORA_KERNELS, help="folder to write to")
    return parser.parse_args()


def products(model: Path, rank: int) -> list[Product]:
    """The distinct products of a layer whose seven matrices are adapted, merged as in vLLM."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    hidden, inner = config.hidden_size, config.intermediate_size
    size = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    query, key = config.num_attention_heads * size, config.num_key_value_heads * size
    merged = [
        (hidden, (query, key, key)),
        (query, (hidden,)),
        (hidden, (inner, inner)),
        (inner, (hidden,)),
    ]
    every = [Product(kernel, *sizes, rank) for kernel in (SHRINK, EXPAND) for sizes in merged]
    return list({(product.kernel, product.key): product for product in every}.values())


def candidates(product: Product) -> Iterator[Blocks]:
    """The blocks to try for a product."""
    outer = min(64, max(16, product.rank))
    if product.kernel == EXPAND:
        sizes = itertools.product((16, 32, 64, 128), (64, 128, 256, 512), (2, 4, 8), (1, 2))
        for m, n, warps, stages in sizes:
            if 8 <= m * n / (32 * warps) <= MAX_SUMS_PER_THREAD:
                yield as_blocks(m, n, min(32, outer), warps, stages)
        return
    ways = itertools.product((32, 64, 128), (64, 128, 256), (4, 8), (2, 3, 4), (1, 2, 4, 8))
    for m, k, warps, stages, parts in ways:
        yield as_blocks(m, outer, k, warps, stages) | {"split_k": parts, "group_size_m": 8}


def as_blocks(m: int, n: int, k: int, warps: int, stages: int) -> Blocks:
    return {
        "block_m": m,
        "block_n": n,
        "block_k": k,
        "num_warps": warps,
        "num_ctas": 1,
        "num_stages": stages,
        "max_nreg": None,
    }


def compile_all(wanted: list[Product], processes: int) -> None:
    """Fill Triton's cache on disk in parallel, since compiling takes longer than timing."""
    jobs = [(product, blocks) for product in wanted for blocks in candidates(product)]
    shares = [jobs[start::processes] for start in range(processes)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        list(pool.map(compile_share, shares))


def compile_share(jobs: list[tuple[Product, Blocks]]) -> None:
    for product, of_product in itertools.groupby(jobs, key=lambda job: job[0]):
        case = Case(product, 256)
        for _, blocks in of_product:
            case.right(blocks)


def best(product: Product, steps: tuple[int, ...]) -> tuple[Blocks, list[tuple[int, float, float]]]:
    """The fastest blocks for these steps, and for each step (tokens, default µs, found µs).

    The fastest has the smallest sum of times, each relative to the default's time for that step.
    Exits if no candidate computes the right result.
    """
    cases = [Case(product, tokens) for tokens in steps]
    plain = [case.microseconds(None) for case in cases]
    chosen: tuple[float, Blocks, list[float]] | None = None
    for blocks in candidates(product):
        if not all(case.right(blocks) for case in cases):
            continue
        times = [case.microseconds(blocks) for case in cases]
        cost = sum(time / default for time, default in zip(times, plain, strict=True))
        if chosen is None or cost < chosen[0]:
            chosen = cost, blocks, times
    if chosen is None:
        raise SystemExit(f"error: no candidate is right for {product}")
    _, blocks, times = chosen
    return blocks, list(zip(steps, plain, times, strict=True))


class Case:
    """One product with its tensors, to call with any blocks; None stands for vLLM's defaults."""

    def __init__(self, product: Product, tokens: int) -> None:
        import torch
        from vllm.lora.ops.triton_ops import lora_expand_op, lora_shrink_op, utils
        from vllm.lora.ops.triton_ops.lora_kernel_metadata import LoRAKernelMeta

        utils._LORA_A_PTR_DICT.clear()  # keyed by address, and addresses are reused
        utils._LORA_B_PTR_DICT.clear()
        self.defaults = utils.get_lora_op_configs
        number = partial(torch.randn, dtype=torch.bfloat16, device="cuda")
        of_token = torch.arange(tokens, device="cuda") // ADAPTER_RUN_TOKENS % ADAPTERS
        meta = LoRAKernelMeta.make(ADAPTERS, tokens, "cuda")
        meta.prepare_tensors(of_token.int())
        rank, slices = product.rank, len(product.outputs)
        x: torch.Tensor
        rest: tuple[Any, ...]
        if product.kernel == SHRINK:
            self.module: Any = lora_shrink_op
            self.kernel = lora_shrink_op._lora_shrink
            x = number(tokens, product.width)
            weights = [number(ADAPTERS, 1, rank, product.width) for _ in range(slices)]
            self.y = torch.empty(slices, tokens, rank, device="cuda")
            self.plain = torch.stack([per_token(x, weight, of_token) for weight in weights])
            rest = (1.0,)
        else:
            self.module = lora_expand_op
            self.kernel = lora_expand_op._lora_expand
            x = torch.randn(slices, tokens, rank, device="cuda")
            weights = [number(ADAPTERS, 1, output, rank) for output in product.outputs]
            self.y = number(tokens, sum(product.outputs))
            parts = zip(x.bfloat16(), weights, strict=True)
            self.plain = torch.cat([per_token(part, weight, of_token) for part, weight in parts], 1)
            rest = (0, True)
        self.arguments = (x, weights, self.y, *meta.meta_args(tokens, False), *rest)

    def run(self, blocks: Blocks | None) -> None:
        self.module.get_lora_op_configs = (
            self.defaults if blocks is None else lambda *_, **__: blocks
        )
        self.kernel(*self.arguments)

    def right(self, blocks: Blocks) -> bool:
        """Whether the blocks fit the GPU and yield the plain product."""
        from triton.runtime.errors import OutOfResources

        self.y.zero_()
        try:
            self.run(blocks)
        except (OutOfResources, RuntimeError):
            return False
        apart = (self.y.float() - self.plain).abs().max()
        return bool(apart < 0.1 * self.plain.abs().mean())

    def microseconds(self, blocks: Blocks | None) -> float:
        """Median time of a call."""
        from triton.testing import do_bench

        time = do_bench(partial(self.run, blocks), warmup=3, rep=15, return_mode="median")
        return 1e3 * float(time)


def per_token(x: Any, weight: Any, of_token: Any) -> Any:
    """Multiply each token by its adapter's matrix in float32.

    x: (tokens, width). Returns (tokens, outputs).
    """
    import torch

    every = torch.stack([x.float() @ one.squeeze(0).float().T for one in weight])
    return every[of_token.long(), torch.arange(len(x), device=x.device)]


if __name__ == "__main__":
    sys.exit(main())
