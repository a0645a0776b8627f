"""Prepared folders read back."""

from pathlib import Path

import pytest

from training.data.prepared import PreparedData
from training.errors import TrainingError


def test_a_sample_is_spread_evenly_by_count_or_share(prepared: Path) -> None:
    data = PreparedData(prepared)
    every = [item.id for item in data.impressions("val")]
    assert [item.id for item in data.sample_evenly("val", 1000)] == every
    assert [item.id for item in data.sample_evenly("val", 0.5)] == every[::2]
    assert [item.id for item in data.sample_evenly("val", 3)] == every[:: len(every) // 3]


def test_a_sample_needs_labels(data: Path) -> None:
    with pytest.raises(TrainingError, match="the split 'test' has no labels"):
        PreparedData(data).sample_evenly("test", 1)


def test_reading_what_is_not_there(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is not a prepared data set.*training prepare"):
        PreparedData(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(TrainingError, match="is not a prepared data set"):
        PreparedData(tmp_path)
    with pytest.raises(TrainingError, match=r"no split 'test'"):
        PreparedData(prepared).count("test")
