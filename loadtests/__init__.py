"""Load tests, run from the repository root as `python -m loadtests.NAME`."""
