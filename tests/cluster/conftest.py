"""A SLURM for the session, where there can be one, and runs on it that nothing stopped."""

import os

import pytest
from jobs import TWO_NODES, conclude, start, submit
from slurm import Cluster, Unavailable


@pytest.fixture(scope="session")
def cluster():
    """Where it cannot be had: a skip at home, a failure in CI."""
    try:
        made = Cluster()
    except Unavailable as reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no SLURM: {reason}")
    with made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(request):
    """A job that a failed test has left behind must not meet the next one."""
    yield
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").cancel_all()


@pytest.fixture(scope="session")
def over_two_nodes(cluster, tmp_path_factory):
    """(folder, logs) of a job of two processes."""
    folder = tmp_path_factory.mktemp("nodes") / "sweep"
    return folder, conclude(cluster, submit(cluster, folder, *TWO_NODES), folder)


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """The folder of a run of one process, without SLURM."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    process = start(os.environ, f"hydra.run.dir={folder}")
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    return folder
