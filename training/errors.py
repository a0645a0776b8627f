"""What a user of the training commands can do something about."""


class TrainingError(Exception):
    """One clear line: what is wrong, and what to change. Shown without a traceback."""


def first_line(error: BaseException) -> str:
    """Of a library's message of many lines; the error itself where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
