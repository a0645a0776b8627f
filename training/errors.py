"""Errors that someone who runs a training command can do something about."""


class TrainingError(Exception):
    """One clear line: what is wrong and what to change. It is shown without a traceback."""
