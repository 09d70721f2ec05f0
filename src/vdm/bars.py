"""Progress bars of all commands: on a terminal only, so that a log has none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

SHARE = "{l_bar}{bar}| {elapsed}<{remaining}"
"""Format of a bar that shows a percentage, without a count."""


def counting_bar(title: str, total: int | None, unit: str, **more: Any) -> tqdm:
    """Return a bar that counts ``total`` things called ``unit``; ``more`` are arguments of tqdm's."""
    return tqdm(desc=title, total=total, unit=unit, dynamic_ncols=True, mininterval=0.5, **{"disable": None, **more})


@contextmanager
def share_bar(title: str, quiet: bool = False) -> Iterator[Callable[[float], None]]:
    """Yield a function that moves a bar to the fraction of the work that is done, 0 … 1.

    Args:
        quiet: show no bar on a terminal either.
    """
    with counting_bar(title, 1, "", bar_format=SHARE, disable=quiet or None) as bar:
        yield lambda done: bar.update(done - bar.n)
