"""A Thompson sample of the rate gives new stories a chance, and costs less than always the best."""

import numpy as np

from app.signals.live import Figures
from app.signals.simulation import simulate


def test_a_sample_has_the_rate_as_its_mean() -> None:
    zeros = np.zeros(20_000)
    figures = Figures(zeros + 30, zeros + 500, zeros, zeros, zeros, zeros, zeros, zeros, 0.04)
    drawn = figures.sampled(np.random.default_rng(0)).rate()
    assert abs(drawn.mean() - figures.rate()[0]) < 0.001
    assert drawn.std() > 0.005
    assert (drawn > 0).all()


def test_sampling_regrets_less_than_pure_exploitation_on_a_thousand_stories() -> None:
    exploit = simulate(sample=False, stories=1000, rounds=1500, seed=1)
    sample = simulate(sample=True, stories=1000, rounds=1500, seed=1)
    assert sample.late_regret < 0.8 * exploit.late_regret
    assert sample.ever_shown > exploit.ever_shown
