"""What is known of a sweep from the files of its runs: which there are, how far each is, what they found."""

import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException

from vdm.curves import EMPTY_CURVE, Curve
from vdm.errors import InvalidInput, printable
from vdm.estimate import Estimate
from vdm.gamma_profile import Profile
from vdm.runs.folder import RunFolder, read_estimate
from vdm.runs.provenance import fingerprints
from vdm.runs.reading import UNREADABLE, only_own_files, read_yaml
from vdm.runs.tables import read_curves, read_profiles, read_rows
from vdm.terms import TERMS

Settings = dict[str, str]
"""What a job was told on its command line, by name."""

MOST = 100_000
"""Jobs that a sweep may announce: a stranger's range costs a reader neither time nor memory."""

ASIDE = ("resume", "sweep")
"""Settings that do not tell one job from another."""


@contextmanager
def as_invalid_input(place: Path) -> Iterator[None]:
    """Raises InvalidInput, in one line, for whatever comes of a file or folder that is not as vdm writes it."""
    try:
        yield
    except InvalidInput:
        raise
    except (*UNREADABLE, HydraException) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidInput(f"{place} holds something else than vdm writes ({reason})") from error


class Run(NamedTuple):
    """One job: its settings, ``finished``, ``failed``, ``unfinished`` or ``missing``, and what there is to say of that.

    ``seed`` and ``data`` are those of a finished run, as its provenance has them; ``curve`` is the validation bound over
    training, ``profile`` the last one.
    """

    folder: RunFolder | None
    settings: Settings
    state: str
    note: str
    test: dict[str, Estimate]
    warnings: Sequence[str] = ()
    flipped: bool = False
    seed: str = ""
    data: str = ""
    curve: Curve = EMPTY_CURVE
    profile: Profile | None = None


def warnings_of(metrics: Mapping[str, Any]) -> list[str]:
    """What is to be said beside a run's number, as it may go to a terminal."""
    return [printable(str(sentence)) for sentence in metrics.get("warnings", [])]


def trained_with_flips(provenance: Mapping[str, Any]) -> bool:
    """Whether a run was trained on mirrored images as well, which makes it one of another table."""
    return bool(provenance.get("data", {}).get("flip"))


def data_of(provenance: Mapping[str, Any]) -> str:
    """What tells whether two runs are on the same data: the bytes of the splits, and whether they were mirrored.

    Where the bytes are not told, all that is.
    """
    about = provenance.get("data")
    return json.dumps([fingerprints(about) or about, trained_with_flips(provenance)], sort_keys=True)


def with_flips(name: str, flipped: bool) -> str:
    """A run's name as tables give it."""
    return f"{name}, trained with flips" if flipped else name


def read_sweep(root: Path) -> list[Run]:
    """Every run of a sweep: those with a folder, and those that ``multirun.yaml`` announces and that have none.

    Raises:
        InvalidInput: a folder that no sweep wrote; a link out of it.
    """
    only_own_files(root)
    homes = sorted(path.parents[1] for path in root.glob("**/.hydra/overrides.yaml"))
    if not homes:
        raise InvalidInput(
            f"{root} holds no run of a sweep: name the folder that vdm-train -m wrote, with its multirun.yaml"
        )
    jobs = _announced(root / "multirun.yaml")
    by_number = {str(number): job for number, job in enumerate(jobs)}
    runs = [
        run if run.settings else run._replace(settings=by_number.get(home.name, {}))
        for home, run in zip(homes, map(read_run, homes), strict=True)
    ]
    there, announced = (Counter(frozenset(job.items()) for job in some) for some in ((run.settings for run in runs), jobs))
    return runs + [Run(None, dict(job), "missing", "no folder yet", {}) for job in (announced - there).elements()]


def read_run(home: Path) -> Run:
    """What the files in the folder of one run say of it; failed where they are not what vdm writes.

    Its note and settings may go to a terminal.

    Raises:
        InvalidInput: a link out of the folder.
    """
    only_own_files(home)
    folder, settings = RunFolder(home), Settings()
    try:
        with as_invalid_input(home):
            settings = settings_of(folder.recorded_overrides())
            run = _read_run(folder, settings)
    except InvalidInput as error:
        run = Run(folder, settings, "failed", str(error), {})
    return run._replace(note=printable(run.note))


def _read_run(folder: RunFolder, settings: Settings) -> Run:
    run = Run(folder, settings, "unfinished", "", {})
    if folder.metrics.exists():
        with as_invalid_input(folder.metrics):
            run = _finished(run, json.loads(folder.metrics.read_text()))
    try:
        with as_invalid_input(folder.curves):
            run = run._replace(curve=read_curves(folder.curves).get("val/bits_per_dim", EMPTY_CURVE))
        with as_invalid_input(folder.profile):
            run = run._replace(profile=next(reversed(read_profiles(folder.profile).values()), None))
    except InvalidInput as error:
        if run.state != "finished":
            raise
        return run._replace(warnings=[*run.warnings, printable(str(error))])
    if run.state == "finished":
        return run
    if folder.failure.exists():
        return run._replace(state="failed", note=folder.failure.read_text().strip())
    return run._replace(note=_progress(folder))


def _finished(run: Run, metrics: Mapping[str, Any]) -> Run:
    facts = metrics.get("provenance", {})
    return run._replace(
        state="finished",
        test={name: read_estimate(metrics["test"][name]) for name in TERMS},
        warnings=warnings_of(metrics),
        flipped=trained_with_flips(facts),
        seed=str(facts.get("seed", run.settings.get("seed"))),
        data=data_of(facts),
    )


def _progress(folder: RunFolder) -> str:
    """How far a run is that has not finished; whether it is going or was killed, its age has to tell."""
    if not folder.config.exists():
        return "not begun"
    limit = read_yaml(folder.config)["trainer"]["max_steps"]
    _, rows = read_rows(folder.curves)
    step = max((int(row["step"]) for row in rows), default=0)
    latest = max(path.stat().st_mtime for path in (folder.config, folder.curves, folder.last) if path.exists())
    return f"step {step} of {limit}, last written {max(0, time.time() - latest) / 60:.0f} minutes ago"


def settings_of(overrides: Iterable[str]) -> Settings:
    """A job's, from the lines of its command that tell it from others; they may go to a terminal."""
    pairs = (printable(override).partition("=") for override in overrides)
    return {name: value for name, _, value in pairs if name not in ASIDE}


def _announced(multirun: Path) -> list[Settings]:
    """The jobs of Hydra's basic sweeper; none where another sweeper decides as it goes, or of more than ``MOST``."""
    if not multirun.exists():
        return []
    asked = read_yaml(multirun)["hydra"]
    if "BasicSweeper" not in str(asked["sweeper"]["_target_"]):
        return []
    params = asked["sweeper"].get("params") or {}
    lines = [f"{name}={value}" for name, value in params.items()] + list(asked["overrides"]["task"])
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(lines):
        key = override.get_key_element()
        choices[key] = [f"{key}={value}" for value in _values(override)]
    if math.prod(map(len, choices.values())) > MOST:
        return []
    return [settings_of(job) for job in itertools.product(*choices.values())]


def _values(override: Override) -> list[str]:
    """Those of one override; of a sweep the first ones, one more than ``MOST`` at most."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    swept = override.value()
    if isinstance(swept, RangeSweep):
        swept.shuffle = False  # Hydra would make the whole list of it first
    return list(itertools.islice(override.sweep_string_iterator(), MOST + 1))
