"""The adapter that is shipped, merged and compared with the model that make has made of it."""

from pathlib import Path

from app.engine.fingerprint import fingerprint
from app.scoring.profile import RANKER_FILES, load_profile
from tests.support.models import ADAPTER, DEFAULT_MODEL, SMOLLM2
from training.__main__ import main


def test_the_shipped_adapter_merges_and_says_the_same(tmp_path: Path) -> None:
    sizes = {file.name: file.stat().st_size for file in ADAPTER.iterdir()}
    assert sizes.pop("tower.npz") <= 50e6
    assert sum(sizes.values()) <= 12e6
    arguments = ["--base", str(SMOLLM2), "--adapter", str(ADAPTER)]
    assert main(["merge", *arguments, "--output", str(tmp_path / "merged")]) == 0
    assert fingerprint(tmp_path / "merged") == fingerprint(DEFAULT_MODEL)  # that make made
    assert load_profile(DEFAULT_MODEL).calibration.slope != 1
    for name in RANKER_FILES:
        assert (tmp_path / "merged" / name).read_bytes() == (ADAPTER / name).read_bytes()
