"""docs/operations/settings.md lists every setting as it is."""

import pytest

from app.settings import ApiKey, Limits, Settings
from tools.settings_table import BEGIN, DOCUMENT, END, table, with_table


def test_the_document_is_current() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == with_table(document), "run what its first mark says"


def test_the_table_has_every_setting_once() -> None:
    named = [line.split("`")[1] for line in table().splitlines() if line.startswith("| `")]
    groups = [f"limits.{name}" for name in Limits.model_fields]
    plain = [name for name in Settings.model_fields if name != "limits"]
    assert named == plain + groups + list(ApiKey.model_fields)


def test_rows_give_kind_bounds_default_and_text() -> None:
    for row in (
        "| `port` | integer ≥ 0, ≤ 65535 | `8000` | Port to listen on. |\n",
        "| `log_level` | `debug`, `info`, `warning`, `error` | `info` |"
        " The least severe messages that are logged. |\n",
        "| `name` | string | required | Name in the access log. |\n",
        "| `limits.timeout_ms` | integer > 0 | `30000` |"
        " Deadline of a request without X-Request-Timeout-Ms. Past it, the answer is 504. |\n",
    ):
        assert row in table()


def test_only_what_is_between_the_marks_changes() -> None:
    assert with_table(f"a\n{BEGIN}old\n{END}\nb\n") == f"a\n{BEGIN}{table()}{END}\nb\n"
    with pytest.raises(ValueError, match="missing"):
        with_table("no marks")
