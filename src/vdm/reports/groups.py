"""What a sweep found: its runs by their settings, and means over seeds."""

import itertools
import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from vdm.errors import InvalidInput
from vdm.estimate import Estimate, decimals
from vdm.runs.sweeps import Run, Settings, with_flips


class Summary(NamedTuple):
    """A term over the seeds: mean and standard error of the mean, NaN for a single run; means of the runs' own errors."""

    mean: float
    se: float
    mc_se: float
    data_se: float

    def shown(self) -> tuple[str, str, str]:
        """Mean ± error over the seeds, mc_se and data_se, with no digit beyond the second of the largest."""
        places = decimals(self.se, self.mc_se, self.data_se)
        value, se, mc_se, data_se = (f"{number:.{places}f}" for number in self)
        return value if math.isnan(self.se) else f"{value} ± {se}", mc_se, data_se


def over_seeds(found: Sequence[Estimate]) -> Summary | None:
    """None of nothing."""
    if not found:
        return None
    values, mc, data = zip(*found, strict=True)
    se = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Summary(mean(values), se, mean(mc), mean(data))


class Group(NamedTuple):
    """The runs that differ in their seed only."""

    label: str
    runs: list[Run]

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.state == "finished"]

    @property
    def name(self) -> str:
        """For a table: the label, and whether a finished run was trained with flips."""
        return with_flips(self.label, any(run.flipped for run in self.finished))

    @property
    def seeds(self) -> list[Run]:
        """The first finished run of each seed: one that repeats it is no further evidence."""
        first: dict[str, Run] = {}
        for run in self.finished:
            first.setdefault(run.seed, run)
        return list(first.values())

    def summary(self, term: str) -> Summary | None:
        """Over the seeds of the finished runs; None if there is none."""
        return over_seeds([run.test[term] for run in self.seeds])


def differing(told: Sequence[Settings], aside: str = "seed") -> list[str]:
    """The settings in which jobs differ, but for the one ``aside``."""
    names = sorted({name for settings in told for name in settings if name != aside})
    return [name for name in names if len({settings.get(name) for settings in told}) > 1]


def in_words(settings: Settings, names: Sequence[str]) -> str:
    """What a job was told of ``names``."""
    return ", ".join(f"{name}={settings[name]}" for name in names if name in settings)


def groups(runs: Sequence[Run]) -> list[Group]:
    """Runs by the settings in which they differ, the seed apart; the best mean first, those without a result last.

    Raises:
        InvalidInput: finished runs of one group on different data.
    """
    names = differing([run.settings for run in runs])

    def label(run: Run) -> str:
        return in_words(run.settings, names) or "all"

    ordered = sorted(runs, key=label)
    found = [Group(name, list(members)) for name, members in itertools.groupby(ordered, key=label)]

    for group in found:
        on = {run.data: run.folder and run.folder.root for run in group.finished}
        if len(on) > 1:
            one, other, *_ = on.values()
            raise InvalidInput(f"{one} and {other} have the same settings and other data, and so no mean: move one away")

    def rank(group: Group) -> float:
        summary = group.summary("bits_per_dim")
        return math.inf if summary is None or math.isnan(summary.mean) else summary.mean

    return sorted(found, key=rank)
