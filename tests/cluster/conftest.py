"""A SLURM for the session, where there can be one."""

import os

import pytest
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
