"""What the live figures cost, at a small size and on both databases."""

from loadtests.ranker.live import Options, measure


def test_counting_takes_a_part_of_a_core(store_url: str) -> None:
    """Processor time of the thread alone, so that other work on the machine does not count."""
    found = measure(Options(None, rate=5000, seconds=1, stories=5000, shown=5), store_url)
    assert 0 < found.cores < 1
    assert 4000 < found.stories <= 5000
