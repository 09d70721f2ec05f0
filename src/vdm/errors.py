"""The exception for invalid input, with checks and words for its messages."""

import difflib
import math
from collections.abc import Iterable


class InvalidInput(ValueError):
    """Input that the user can correct; the message is one line with what is wrong, the value seen and what to do.

    The commands print the message without a traceback and exit with status 2. Any other exception is a defect of the
    program and keeps its traceback.
    """


def at_least(least: int, **settings: float) -> None:
    """Raise InvalidInput for the first of ``settings`` below ``least``."""
    for name, value in settings.items():
        if not value >= least:
            raise InvalidInput(f"{name} must be at least {least}, got {value}")


def at_most(most: int = 10_000_000, **settings: float) -> None:
    """Raise InvalidInput for the first of ``settings`` above ``most``, such as a number of steps that would never finish."""
    for name, value in settings.items():
        if value > most:
            raise InvalidInput(f"{name} must be at most {most:,}, got {value}")


def finite(**settings: float) -> None:
    """Raise InvalidInput for the first of ``settings`` that is NaN or infinite."""
    for name, value in settings.items():
        if not math.isfinite(value):
            raise InvalidInput(f"{name} must be a finite number, got {value}")


def printable(text: str) -> str:
    """Replace control characters in text from a file by �, except line ends and tabs, so that it can go to a terminal."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)


def one_line(error: BaseException, most: int = 1000, named: bool = False) -> str:
    """Return an error's message on one line of at most ``most`` characters, or its class where it has none.

    Args:
        named: whether the class stands before the message in any case.
    """
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return (f"{kind}: {text}" if named else text or kind)[:most]


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return the end of a message on an unknown ``name``: the closest of ``known``, or else ``otherwise``."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; {otherwise}"
