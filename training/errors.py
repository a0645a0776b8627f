"""What a user of the training commands can do something about."""


class TrainingError(Exception):
    """One clear line: what is wrong, and what to change. Shown without a traceback."""
