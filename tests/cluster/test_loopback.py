"""loopback.sh: the namespace in which the host name resolves to 127.0.0.1."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NAMESPACE = ("unshare", "--uts", *(() if os.geteuid() == 0 else ("--map-root-user",)), "sh", "-c")


def test_loopback_resolves_an_unknown_host_name():
    """The command gets its arguments, and its exit status is returned."""
    rename = 'hostname nowhere.invalid && exec "$@"'
    if shutil.which("ip") is None or subprocess.run([*NAMESPACE, rename, "sh", "true"], capture_output=True).returncode:
        pytest.skip("needs unprivileged namespaces and ip")
    script = 'getent ahostsv4 "$(hostname -s)" | head -1; echo "$1"; exit 3'
    command = [Path(__file__).with_name("loopback.sh"), "sh", "-c", script, "sh", "two words"]
    done = subprocess.run([*NAMESPACE, rename, "sh", *command], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["127.0.0.1", "two"]
