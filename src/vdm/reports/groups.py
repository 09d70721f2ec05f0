"""Groups of runs that differ in their seed only, with means over seeds."""

import itertools
import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from vdm.errors import InvalidInput
from vdm.estimate import decimals
from vdm.runs.sweeps import Run, Settings


class Summary(NamedTuple):
    """Mean of a term over seeds, its standard error (NaN for one seed), and means of the runs' own standard errors."""

    mean: float
    se: float
    mc_se: float
    data_se: float

    def shown(self) -> tuple[str, str, str]:
        """Return mean ± se, mc_se and data_se, rounded to the second digit of the largest error."""
        places = decimals(self.se, self.mc_se, self.data_se)
        value, se, mc_se, data_se = (f"{number:.{places}f}" for number in self)
        return value if math.isnan(self.se) else f"{value} ± {se}", mc_se, data_se


class Group(NamedTuple):
    """Runs that differ in their seed only, labelled by the settings that distinguish them from other groups."""

    label: str
    runs: list[Run]

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.state == "finished"]

    @property
    def name(self) -> str:
        """The label for a table."""
        return mark_flips(self.label, any(run.flipped for run in self.finished))

    @property
    def one_per_seed(self) -> list[Run]:
        """The first finished run of each seed; repeated seeds are not independent."""
        first: dict[str, Run] = {}
        for run in self.finished:
            first.setdefault(run.seed, run)
        return list(first.values())

    def summary(self, term: str) -> Summary | None:
        """Return a term over the seeds of the finished runs; None if there are none."""
        estimates = [run.test[term] for run in self.one_per_seed]
        if not estimates:
            return None
        values, mc_se, data_se, *_ = zip(*estimates, strict=True)
        se = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return Summary(mean(values), se, mean(mc_se), mean(data_se))


def mark_flips(name: str, flipped: bool) -> str:
    """Return a run's name for a table; runs trained on mirrored images are marked."""
    return f"{name}, trained with flips" if flipped else name


def differing(jobs: Sequence[Settings], except_for: str = "seed") -> list[str]:
    """Return the names of the settings in which jobs differ, without ``except_for``."""
    names = sorted({name for settings in jobs for name in settings if name != except_for})
    return [name for name in names if len({settings.get(name) for settings in jobs}) > 1]


def settings_label(settings: Settings, names: Sequence[str]) -> str:
    """Return the settings among ``names`` as ``name=value, …``."""
    return ", ".join(f"{name}={settings[name]}" for name in names if name in settings)


def groups(runs: Sequence[Run]) -> list[Group]:
    """Group runs by the settings in which they differ besides the seed, sorted by mean bound; unfinished groups are last.

    Raises:
        InvalidInput: finished runs of one group on different data.
    """
    names = differing([run.settings for run in runs])

    def label(run: Run) -> str:
        return settings_label(run.settings, names) or "all"

    grouped = [Group(name, list(members)) for name, members in itertools.groupby(sorted(runs, key=label), key=label)]
    for group in grouped:
        folders = {run.data_id: run.folder and run.folder.root for run in group.finished}
        if len(folders) > 1:
            one, other, *_ = folders.values()
            raise InvalidInput(f"{one} and {other} have the same settings but different data, so no mean: move one away")

    def rank(group: Group) -> float:
        summary = group.summary("bits_per_dim")
        return math.inf if summary is None or math.isnan(summary.mean) else summary.mean

    return sorted(grouped, key=rank)
