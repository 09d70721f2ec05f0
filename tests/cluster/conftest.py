"""A SLURM for the test session, and uninterrupted runs to compare with."""

import os

import pytest
from jobs import TWO_NODES, finish, start, submit
from slurm import Cluster, Unavailable


@pytest.fixture(scope="session")
def cluster():
    """A running SLURM. Without one, tests are skipped, and fail in CI."""
    try:
        cluster = Cluster()
    except Unavailable as reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no SLURM: {reason}")
    with cluster:
        yield cluster


@pytest.fixture(autouse=True)
def cancel_jobs(request):
    """Cancel the jobs that a failed test has left."""
    yield
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").cancel_all()


@pytest.fixture(scope="session")
def over_two_nodes(cluster, tmp_path_factory):
    """Sweep folder and logs of an uninterrupted job over two nodes."""
    folder = tmp_path_factory.mktemp("nodes") / "sweep"
    return folder, finish(cluster, submit(cluster, folder, *TWO_NODES), folder)


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """Folder of an uninterrupted run of one process, without SLURM."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    process = start(os.environ, f"hydra.run.dir={folder}")
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    return folder
