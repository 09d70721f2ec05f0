"""The one exception for input that its giver can mend, and what they may have meant."""

import difflib
import math
from collections.abc import Iterable


class InvalidInput(ValueError):
    """What was given cannot be used; the message is one line that says what is wrong and what to do instead.

    The commands print the message without a traceback and end with exit status 2. Any other exception is a defect of
    the program and keeps its traceback.
    """


def at_least(least: int, **settings: float) -> None:
    """Raises InvalidInput for the first of ``settings`` that is below ``least``."""
    for name, value in settings.items():
        if not value >= least:
            raise InvalidInput(f"{name} must be at least {least}, got {value}")


def at_most(most: int = 10_000_000, **settings: float) -> None:
    """Raises InvalidInput for the first of ``settings`` above ``most``: steps and draws that would never be done."""
    for name, value in settings.items():
        if value > most:
            raise InvalidInput(f"{name} must be at most {most:,}, got {value}")


def finite(**settings: float) -> None:
    """Raises InvalidInput for the first of ``settings`` that is infinite or no number."""
    for name, value in settings.items():
        if not math.isfinite(value):
            raise InvalidInput(f"{name} must be a finite number, got {value}")


def printable(text: str) -> str:
    """Text from a file as it may go to a terminal: with � for whatever steers one, line ends and tabs excepted."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """How a message on an unknown name goes on: with the closest known one, or with ``otherwise``."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; {otherwise}"
