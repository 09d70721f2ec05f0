"""The namespace in which SLURM runs where a machine's name is not 127.0.0.1."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ELSEWHERE = ("unshare", "--uts", *(() if os.geteuid() == 0 else ("--map-root-user",)), "sh", "-c")


def test_a_host_name_that_nobody_knows_becomes_this_machine():
    """The command runs there, with its arguments, and its status comes back."""
    named = 'hostname nowhere.invalid && exec "$@"'
    if shutil.which("ip") is None or subprocess.run([*ELSEWHERE, named, "sh", "true"], capture_output=True).returncode:
        pytest.skip("no namespaces here, or no ip")
    asked = 'getent ahostsv4 "$(hostname -s)" | head -1; echo "$1"; exit 3'
    command = [Path(__file__).with_name("loopback.sh"), "sh", "-c", asked, "sh", "two words"]
    done = subprocess.run([*ELSEWHERE, named, "sh", *command], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["127.0.0.1", "two"]
