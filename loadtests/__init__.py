"""Load tests, started from the repository's root as `python -m loadtests.NAME`."""
