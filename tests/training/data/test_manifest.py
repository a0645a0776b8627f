"""manifest.json as earlier versions wrote it: read whole, and written again to the byte."""

from pathlib import Path

import pytest

from tests.support.models import RECORDS
from training.data.manifest import Manifest

FILES = ["manifest.json", "manifest-original.json", "manifest-faulty.json"]


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_is_written_again(name: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes((RECORDS / name).read_bytes())
    manifest = Manifest.read(tmp_path)
    (tmp_path / "manifest.json").unlink()
    manifest.write(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == (RECORDS / name).read_bytes()


def test_fields_have_their_meaning(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes((RECORDS / "manifest.json").read_bytes())
    manifest = Manifest.read(tmp_path)
    assert (manifest.recipe, manifest.options["negatives"]) == ("temporal", 4)
    assert manifest.splits["train"].positive_share == pytest.approx(65 / 293, abs=1e-5)
    assert manifest.splits["test"].clicks is None
    assert manifest.files["news.parquet"].bytes == 4796


def test_a_file_of_another_version_needs_only_its_hash(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"data_hash": "abc", "invented": {"later": 1}}')
    assert Manifest.read(tmp_path).data_hash == "abc"
    (tmp_path / "manifest.json").write_text('{"recipe": "temporal"}')
    with pytest.raises(ValueError, match="data_hash"):
        Manifest.read(tmp_path)
