"""The runs of a sweep, as their files describe them: settings, state and results."""

import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep

from vdm.curves import EMPTY_CURVE, Curve
from vdm.errors import InvalidInput, printable
from vdm.estimate import Estimate
from vdm.gamma_profile import Profile
from vdm.runs.bounds import read_text
from vdm.runs.files import file_sha256
from vdm.runs.folder import RunFolder, read_estimate, was_edited
from vdm.runs.provenance import fingerprints
from vdm.runs.reading import check_contained, read_json, read_yaml, reading
from vdm.runs.tables import read_curves, read_profiles, read_rows
from vdm.terms import LABELS, TERMS

Settings = dict[str, str]  # values of a job's overrides by name
MAX_JOBS = 100_000  # most jobs that are listed from a multirun.yaml: a foreign one may hold a range that exhausts memory
SHARED_SETTINGS = ("resume", "sweep")  # settings that do not distinguish the jobs of a sweep


class Run(NamedTuple):
    """A run as its files describe it; texts are safe to print.

    Attributes:
        folder: None for a job without a folder.
        state: ``finished``, ``failed``, ``unfinished`` or ``missing``.
        note: the reason of a failure, or the progress of an unfinished run.
        test: estimates on the test set in bits/dim, by term and by layer.
        metrics: the content of metrics.json; from it ``seed``, ``flipped`` (trained on mirrored images too) and ``data_id``
            (equal for runs on the same data).
        curve: the validation bound over training.
        profile: the last one.
    """

    folder: RunFolder | None
    settings: Settings
    state: str
    note: str
    test: Mapping[str, Estimate] = {}
    metrics: Mapping[str, Any] = {}
    seed: str = ""
    flipped: bool = False
    data_id: str = ""
    warnings: Sequence[str] = ()
    curve: Curve = EMPTY_CURVE
    profile: Profile | None = None


def read_sweep(root: Path) -> list[Run]:
    """Return the runs in ``root``, then those that multirun.yaml announces and that have no folder yet.

    Raises:
        InvalidInput: a folder without runs; a link out of it.
    """
    check_contained(root)
    folders = sorted(path.parents[1] for path in root.glob("**/.hydra/overrides.yaml"))
    if not folders:
        raise InvalidInput(
            f"{root} holds no run of a sweep: name the folder that vdm-train -m wrote, with its multirun.yaml"
        )
    jobs = _announced(root / "multirun.yaml")
    by_number = {str(number): job for number, job in enumerate(jobs)}
    runs = [
        run if run.settings else run._replace(settings=by_number.get(folder.name, {}))
        for folder, run in zip(folders, map(read_run, folders), strict=True)
    ]
    found = Counter(frozenset(run.settings.items()) for run in runs)
    missing = Counter(frozenset(job.items()) for job in jobs) - found
    return runs + [Run(None, dict(job), "missing", "no folder yet") for job in missing.elements()]


def read_run(root: Path) -> Run:
    """Return the run in ``root``, ``failed`` if its files are malformed; raise InvalidInput for a link out of the folder."""
    check_contained(root)
    folder, settings = RunFolder(root), Settings()
    try:
        with reading(root):
            settings = _settings(folder.recorded_overrides())
            run = _read_run(folder, settings)
    except InvalidInput as error:
        run = Run(folder, settings, "failed", str(error))
    return run._replace(note=printable(run.note))


def _read_run(folder: RunFolder, settings: Settings) -> Run:
    run = Run(folder, settings, "unfinished", "")
    if folder.metrics.exists():
        with reading(folder.metrics):
            run = _finished(run, read_json(folder.metrics))
    try:
        with reading(folder.curves):
            run = run._replace(curve=read_curves(folder.curves).get("val/bits_per_dim", EMPTY_CURVE))
        with reading(folder.profile):
            run = run._replace(profile=next(reversed(read_profiles(folder.profile).values()), None))
    except InvalidInput as error:
        if run.state != "finished":
            raise
        return run._replace(warnings=[*run.warnings, printable(str(error))])
    if run.state == "finished":
        return run._replace(warnings=[*run.warnings, *_changes(folder, run.metrics)])
    if folder.failure.exists():
        return run._replace(state="failed", note=read_text(folder.failure).strip())
    return run._replace(note=_progress(folder))


def _changes(folder: RunFolder, metrics: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each file that is not what the run has written, as far as its result tells."""
    curve = metrics.get("provenance", {}).get("curve_sha256")
    changed = ["metrics.json was changed after the run wrote it"] if was_edited(metrics) else []
    if curve is not None and not (folder.curves.exists() and file_sha256(folder.curves) == curve):
        changed.append("metrics.csv is not the curve of this result")
    return changed


def _finished(run: Run, metrics: Mapping[str, Any]) -> Run:
    provenance, test = metrics.get("provenance", {}), metrics["test"]
    data = provenance.get("data", {})
    flipped = bool(data.get("flip"))
    return run._replace(
        state="finished",
        test={name: read_estimate(test[name]) for name in (*TERMS, *(key for key in test if _further_term(key)))},
        metrics=metrics,
        seed=str(provenance.get("seed", run.settings.get("seed"))),
        flipped=flipped,
        data_id=json.dumps([fingerprints(data) or data, flipped], sort_keys=True),
        warnings=[printable(str(sentence)) for sentence in metrics.get("warnings", [])],
    )


def _further_term(name: str) -> bool:
    return name not in TERMS and (name.startswith("layer_") or name in LABELS)


def _progress(folder: RunFolder) -> str:
    """Progress of an unfinished run. Only the time of its last write shows whether it is still alive."""
    if not folder.config.exists():
        return "not started"
    limit = read_yaml(folder.config)["trainer"]["max_steps"]
    _, rows = read_rows(folder.curves)
    step = max((int(row["step"]) for row in rows), default=0)
    latest = max(path.stat().st_mtime for path in (folder.config, folder.curves, folder.last) if path.exists())
    return f"step {step} of {limit}, last written {max(0, time.time() - latest) / 60:.0f} minutes ago"


def _settings(overrides: Iterable[str]) -> Settings:
    """Return the settings that distinguish a job from the others of its sweep."""
    pairs = (printable(override).partition("=") for override in overrides)
    return {name: value for name, _, value in pairs if name not in SHARED_SETTINGS}


def _announced(multirun: Path) -> list[Settings]:
    """Return the jobs of Hydra's basic sweeper; none for another sweeper, or for more than ``MAX_JOBS``."""
    if not multirun.exists():
        return []
    config = read_yaml(multirun)["hydra"]
    if "BasicSweeper" not in str(config["sweeper"]["_target_"]):
        return []
    params = config["sweeper"].get("params") or {}
    lines = [f"{name}={value}" for name, value in params.items()] + list(config["overrides"]["task"])
    if sum(map(len, map(str, lines))) > MAX_JOBS or any(
        str(line).count(opening) > 50 for line in lines for opening in "([{"
    ):
        return []
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(lines):
        key = override.get_key_element()
        choices[key] = [f"{key}={value}" for value in _values(override)]
    if math.prod(map(len, choices.values())) > MAX_JOBS:
        return []
    return [_settings(job) for job in itertools.product(*choices.values())]


def _values(override: Override) -> list[str]:
    """Return the values of one override; of a sweep at most ``MAX_JOBS + 1``."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    swept = override.value()
    if isinstance(swept, RangeSweep):
        swept.shuffle = False  # to shuffle a range, Hydra would make a list of all of it
    return list(itertools.islice(override.sweep_string_iterator(), MAX_JOBS + 1))
