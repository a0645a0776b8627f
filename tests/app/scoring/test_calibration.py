import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.scoring.calibration import predict, sigmoid
from app.scoring.profile import COMPACT, ORIGINAL, Profile, ProfileError, load_profile
from app.scoring.ranking import order


def test_probability_is_the_softmax_of_the_two_labels() -> None:
    result = predict(math.log(0.6), math.log(0.2), Profile())
    assert result.probability == pytest.approx(0.75)
    assert result.label_mass == pytest.approx(0.8)
    assert result.label == "Yes."


def test_calibration_and_threshold_come_from_the_profile() -> None:
    profile = Profile.model_validate(
        {"calibration": {"slope": 2.0, "intercept": -3.0}, "threshold": 0.2}
    )
    result = predict(math.log(0.6), math.log(0.2), profile)
    assert result.probability == pytest.approx(sigmoid(2 * math.log(3) - 3))
    assert result.label == "Yes."
    assert predict(math.log(0.5), math.log(0.5), profile).label == "No."


def test_little_mass_on_both_labels_is_unknown() -> None:
    result = predict(math.log(0.05), math.log(0.01), Profile())
    assert result.label == "Unknown"
    assert result.probability == pytest.approx(5 / 6)


@pytest.mark.parametrize("x", [-1e4, -40.0, 0.0, 40.0, 1e4])
def test_sigmoid_does_not_overflow(x: float) -> None:
    assert 0 <= sigmoid(x) <= 1
    assert sigmoid(x) + sigmoid(-x) == pytest.approx(1)


def test_order_is_stable() -> None:
    assert order([0.2, 0.9, 0.2, 0.9, 0.5]) == [1, 3, 4, 0, 2]
    assert order([0.1]) == [0]


def test_profile_of_a_folder_without_one_is_the_original(tmp_path: Path) -> None:
    assert load_profile(tmp_path) == Profile()
    assert Profile().layout == ORIGINAL


def test_profile_keeps_its_whole_layout(tmp_path: Path) -> None:
    profile = Profile(layout=COMPACT, history=20, threshold=0.1)
    written = profile.model_dump_json()
    assert json.loads(written)["layout"]["head"] == COMPACT.head
    (tmp_path / "profile.json").write_text(written)
    assert load_profile(tmp_path) == profile


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"layout": "compakt"}', "layout: .*unknown layout 'compakt'.*original, compact"),
        ('{"histroy": 3}', "histroy: Extra inputs"),
        ('{"threshold": 2}', "threshold: .*less than or equal to 1"),
        ('{"calibration": {"slope": -1}}', "calibration.slope: .*greater than 0"),
        ("{", "the whole file: Invalid JSON"),
    ],
)
def test_a_broken_profile_is_named_with_its_field(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(ProfileError, match=f"profile.json: {complaint}"):
        load_profile(tmp_path)


def test_an_item_without_a_title_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"must hold \{title\}"):
        COMPACT.model_validate(COMPACT.model_dump() | {"target": "{category}"})
