"""Stories with invented click-through: what always showing the best known ones costs, and what
ordering by a Thompson sample costs.

  python -m app.signals.simulation

Each round shows ten of 1,000 stories to 100 readers. Regret is what the ten best stories would have
been clicked more often, in clicks an impression.
"""

from dataclasses import dataclass

import numpy as np

from app.signals.live import STORY_PRIOR, Figures

SLOTS, READERS = 10, 100
SITE_RATE = 0.04
SPREAD = 4.0
"""The stories' rates are drawn from a Beta distribution of this many pseudo-clicks."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """regret: over all rounds, in clicks an impression. late_regret: over the last quarter of the
    rounds. ever_shown: how many stories were shown at least once."""

    regret: float
    late_regret: float
    ever_shown: int


def simulate(*, sample: bool, stories: int = 1000, rounds: int = 3000, seed: int = 0) -> Outcome:
    """Show the best known stories, or the best of a sample, round by round."""
    random = np.random.default_rng(seed)
    truth = random.beta(SPREAD, SPREAD * (1 / SITE_RATE - 1), stories)
    best = np.sort(truth)[-SLOTS:].mean()
    clicks, shown, nothing = np.zeros(stories), np.zeros(stories), np.zeros(stories)
    regrets = np.zeros(rounds)
    ties = random.random(stories) * 1e-9
    for number in range(rounds):
        figures = Figures(
            clicks, shown, nothing, nothing, shown, nothing, nothing, nothing, SITE_RATE
        )
        rates = (figures.sampled(random) if sample else figures).rate() + ties
        chosen = np.argpartition(-rates, SLOTS)[:SLOTS]
        clicks[chosen] += random.binomial(READERS, truth[chosen])
        shown[chosen] += READERS
        regrets[number] = best - truth[chosen].mean()
    late = regrets[-rounds // 4 :]
    return Outcome(float(regrets.mean()), float(late.mean()), int((shown > 0).sum()))


def main() -> None:
    print(f"1,000 stories, prior of {STORY_PRIOR:g} impressions; clicks an impression, 5 seeds")
    for name, sample in (("pure exploitation", False), ("Thompson sample", True)):
        runs = [simulate(sample=sample, seed=seed) for seed in range(5)]
        regret, late = (np.mean([getattr(r, k) for r in runs]) for k in ("regret", "late_regret"))
        seen = np.mean([r.ever_shown for r in runs])
        print(f"{name:18}  regret {regret:.4f}, last quarter {late:.4f}, stories shown {seen:.0f}")


if __name__ == "__main__":
    main()
