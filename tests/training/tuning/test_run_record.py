"""run.json as earlier versions wrote it: read whole, and written again to the byte."""

import json
from pathlib import Path

from tests.support.models import RECORDS
from training.tuning.run_record import RunRecord


def test_what_is_read_is_written_again(tmp_path: Path) -> None:
    RunRecord.read(RECORDS).write(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == (RECORDS / "run.json").read_bytes()


def test_fields_have_their_meaning() -> None:
    record = RunRecord.read(RECORDS)
    assert (record.base_model, record.seed, record.config["seed"]) == ("tiny", 7, 7)
    assert record.calibration is not None
    assert record.calibration.after.log_loss < record.calibration.before.log_loss
    assert record.hardware.threads == 1


def test_options_of_another_version_and_no_calibration(tmp_path: Path) -> None:
    known = json.loads((RECORDS / "run.json").read_bytes())
    known |= {"calibration": None, "config": {"an_option_of_old": 1}, "invented": 2}
    (tmp_path / "run.json").write_text(json.dumps(known))
    record = RunRecord.read(tmp_path)
    assert record.calibration is None
    assert record.config == {"an_option_of_old": 1}
