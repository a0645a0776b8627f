"""`estimate` on a simulated site's log, from the files that `collect` writes to the table."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from loadtests.training.biased_site import SIZE, TRUE, Floats, Site, simulate, write_log
from training.__main__ import main
from training.data.prepared import PreparedData
from training.evaluation.earnings import Earnings
from training.evaluation.record import Figure
from training.ranking.rows import write_scores
from training.ranking.score import keys_of

QUICK = ("--bootstrap", "100")


class Case(NamedTuple):
    folder: Path
    site: Site

    def write(self, name: str, scores: Floats, lists: range | None = None) -> None:
        """Scores [lists, SIZE], as `score` would write them; only of some lists if told so."""
        log = PreparedData(self.folder / "data").log().collect()
        keys = dict(zip(log["impression"].to_list(), keys_of(log), strict=True))
        kept = lists or range(len(scores))
        rows = {keys[f"i{number}"]: scores[number].tolist() for number in kept}
        write_scores(self.folder / f"{name}.parquet", rows)

    def estimate(self, *arguments: str, names: tuple[str, ...] = ("good",)) -> int:
        given = [f"--scores={name}={self.folder / name}.parquet" for name in names]
        output = f"--output={self.folder / 'out' / 'estimate.json'}"
        data = f"--data={self.folder / 'data'}"
        return main(["estimate", data, output, *given, *QUICK, *arguments])

    def read(self) -> Earnings:
        return Earnings.model_validate_json((self.folder / "out" / "estimate.json").read_bytes())


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A site that orders by taste, but three lists of ten at random."""
    folder = tmp_path_factory.mktemp("estimate")
    site = simulate("taste", seed=2, lists=3000, readers=300, shuffled=0.3)
    write_log(site, folder / "log")
    command = ["prepare", "--train", str(folder / "log"), "--out", str(folder / "data")]
    assert main([*command, "--val-days", "1"]) == 0
    found = Case(folder, site)
    found.write("good", good_scores(site))
    found.write("poor", np.random.default_rng(1).random(site.chance.shape))
    found.write("served", site.chance)
    return found


@pytest.fixture
def random(case: Case) -> tuple[str, ...]:
    return "--random", "shuffled", "--shown", str(case.folder / "log" / "impressions.parquet")


def ends(figure: Figure | None) -> tuple[float, float]:
    """Of the interval, which must be there."""
    assert figure is not None
    assert figure.low is not None
    assert figure.high is not None
    return figure.low, figure.high


def gain(case: Case) -> float:
    """The good model's true one, in clicks a list."""
    return case.site.earned(good_scores(case.site)) - float((case.site.chance @ TRUE).mean())


def good_scores(site: Site) -> Floats:
    """The true chances with some noise, [lists, SIZE]."""
    return site.chance * np.random.default_rng(0).lognormal(0, 0.2, site.chance.shape)


@pytest.mark.parametrize("how", ["random", "served"])
def test_the_truth_is_within_the_interval(
    case: Case, random: tuple[str, ...], how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = random if how == "random" else ("--served", str(case.folder / "served.parquet"))
    assert case.estimate(*own, names=("good", "poor")) == 0
    found = case.read()
    good, poor = found.orders
    low, high = ends(good.over_logged)
    assert low < gain(case) < high
    assert ends(poor.over_first)[1] < 0
    assert poor.name == "poor"
    assert (found.lists, found.readers) == (3000, 300)
    assert found.clicks == case.site.clicked.sum()
    text = capsys.readouterr().out
    assert "poor over good: -0." in text
    assert ("lists that shuffled ordered at random" in text) == (how == "random")


def test_without_either_the_gain_is_too_high(case: Case) -> None:
    assert case.estimate("--same-for-all") == 0
    assert ends(case.read().orders[0].over_logged)[0] > 1.3 * gain(case)


def test_places_below_the_depth_are_one_line(case: Case, random: tuple[str, ...]) -> None:
    assert case.estimate(*random, "--depth", "4") == 0
    places = [(place.first, place.last) for place in case.read().places]
    assert places == [(1, 1), (2, 2), (3, 3), (4, None)]


def test_lists_without_scores_are_left_out(case: Case, random: tuple[str, ...]) -> None:
    scores = np.random.default_rng(0).random(case.site.chance.shape)
    for part, lists in (("early", range(1000)), ("late", range(1000, 1800))):
        case.write(part, scores, lists)
    files = [f"--scores=parts={case.folder / part}.parquet" for part in ("early", "late")]
    assert case.estimate(*random, *files, names=()) == 0
    assert case.read().lists == 1800
    assert [order.name for order in case.read().orders] == ["parts"]


def test_too_little_is_refused_and_nothing_written(
    case: Case, random: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    (case.folder / "out" / "estimate.json").unlink(missing_ok=True)
    case.write("few", case.site.chance, range(150))
    assert case.estimate(*random, names=("few",)) == 1
    assert "few: the 1" in (error := capsys.readouterr().err)
    assert "--least-clicks is 100" in error
    assert not (case.folder / "out" / "estimate.json").exists()
    assert case.estimate(*random, "--least-clicks", "20", names=("few",)) == 0


def test_bad_input_is_named(
    case: Case, random: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*arguments: str, names: tuple[str, ...] = ("good",)) -> str:
        assert case.estimate(*arguments, names=names) == 1
        return capsys.readouterr().err.splitlines()[-1]

    other, short = case.folder / "other.parquet", case.folder / "short.parquet"
    write_scores(other, {"x": [1.0]})
    first = pl.read_parquet(case.folder / "good.parquet")["impression"][0]
    write_scores(short, {first: [1.0] * (SIZE - 1)})
    assert "no scores for any of the 3,000" in fails(*random, names=("other",))
    assert "has 10 candidates, but 9 scores" in fails(*random, names=("short",))
    write_scores(short, {first: [float("nan")] * SIZE})
    assert "but 0 scores that are numbers" in fails(*random, names=("short",))
    case.write("upside", -case.site.chance)
    assert "did not order the log" in fails("--served", str(case.folder / "upside.parquet"))
    assert "--random nobody: no list" in fails("--random", "nobody", *random[2:])
    assert "--shown nowhere" in fails("--random", "shuffled", "--shown", "nowhere")
    assert "--clip 0.5: must be 1 or more" in fails(*random, "--clip", "0.5")
    assert "write it as NAME=FILE" in fails(*random, "--scores", "x.parquet")


def test_how_the_log_was_ordered_must_be_said(case: Case) -> None:
    with pytest.raises(SystemExit):
        case.estimate()


def test_the_file_is_plain_json(case: Case, random: tuple[str, ...]) -> None:
    assert case.estimate(*random) == 0
    found = json.loads((case.folder / "out" / "estimate.json").read_text())
    assert found["places"][0]["looked_at"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["orders"][0]["over_first"] is None
