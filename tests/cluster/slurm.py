"""A real SLURM on this machine: two virtual nodes, loopback only, from Debian packages unpacked into a folder, no root.

python tests/cluster/slurm.py        # runs until Ctrl-C; prints the variables to export in another shell
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
NODES = ("127.0.0.1", "127.0.0.2")
"""Addresses as names: Lightning uses the first node's name as the address of rank 0."""

SACCT = """#!/bin/sh
# Replaces the accounting database: JobID, State and NodeList of each -j, all that submitit asks for.
echo 'JobID|State|NodeList'
while [ $# -gt 0 ]; do
  if [ "$1" = -j ]; then squeue --noheader --array --states=all --jobs="$2" --format='%i|%T|%N' 2>/dev/null; fi
  shift
done
exit 0
"""


class Unavailable(Exception):
    """SLURM cannot run here; the message says why."""


def unpack(prefix: Path) -> Path:
    """Download the packages with apt and unpack them below ``prefix``, once; return the folder."""
    files = prefix / "files"
    if (prefix / "complete").exists():
        return files
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"no {tool}: SLURM is installed from Debian packages")
    debs = prefix / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    plan = _run("apt-get", "install", "--simulate", "--no-install-recommends", *PACKAGES)
    if not plan:
        _run("apt-get", "update")
        plan = _run("apt-get", "install", "--simulate", "--no-install-recommends", *PACKAGES)
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    if not names:
        raise Unavailable(f"apt offers no {', '.join(PACKAGES)}")
    subprocess.run(["apt-get", "download", "-qq", *names], cwd=debs, capture_output=True)
    found = sorted(debs.glob("*.deb"))
    if len(found) < len(names):
        raise Unavailable(f"apt could download {len(found)} of {len(names)} packages")
    for deb in found:
        subprocess.run(["dpkg-deb", "--extract", deb, files], check=True)
    (prefix / "complete").touch()
    return files


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


class Cluster:
    """A SLURM that runs inside a ``with`` block; commands reach it with ``environment``."""

    def __init__(self) -> None:
        home = Path(tempfile.gettempdir()) / f"vdm-slurm-{getpass.getuser()}"
        self.files = unpack(home / "packages")
        self.host = socket.gethostname().split(".")[0]
        if socket.gethostbyname(self.host) != "127.0.0.1":
            raise Unavailable(f"{self.host} does not resolve to 127.0.0.1: run under tests/cluster/loopback.sh")
        self.root = Path(tempfile.mkdtemp(prefix="run-", dir=home))  # short: it holds unix sockets
        (self.root / "bin").mkdir()
        (self.root / "bin/sacct").write_text(SACCT)
        (self.root / "bin/sacct").chmod(0o755)
        self.plugins = next(self.files.rglob("libslurmfull.so")).parent
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(self.root / "slurm.conf"),
            "PATH": f"{self.root}/bin:{self.files}/usr/bin:{self.files}/usr/sbin:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{self.plugins}:{self.plugins.parent}",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONPYCACHEPREFIX": str(home / "pyc"),  # importing is most of a short job's time
            "OMP_NUM_THREADS": "1",
        }
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Cluster":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the jobs, then end the daemons in reverse order."""
        if len(self._daemons) > 1:
            self.cancel_all()
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def call(self, *command: str) -> str:
        """Return a SLURM command's output; empty if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout if done.returncode == 0 else ""

    def running(self) -> str:
        """Return the id of the running job.

        Raises:
            ValueError: no job is running, or several are.
        """
        (job,) = self.call("squeue", "--noheader", "--states=running", "--format=%i").split()
        return job

    def state(self) -> str:
        """Return the state of jobs and nodes, for error messages."""
        jobs = self.call("squeue", "--states=all", "--format=%i %T %r %N %M")
        return f"{jobs}{self.call('sinfo', '--Node', '--long')}"

    def cancel_all(self) -> None:
        """Cancel all jobs, and kill their processes."""
        for job in self.call("squeue", "--noheader", "--format=%A").split():
            self.call("scancel", job)
            self.call("scancel", "--full", "--signal=KILL", job)
        self.wait_until_idle(20)

    def wait_until_idle(self, seconds: float = 60) -> None:
        """Wait until no job is left."""
        limit = time.monotonic() + seconds
        while self.call("squeue", "--noheader", "--format=%A").strip() and time.monotonic() < limit:
            time.sleep(0.2)

    def _start(self) -> None:
        munge = self.root / "munge"
        munge.mkdir(mode=0o755)
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
        self._spawn("munged", "--foreground", "--force", f"--socket={munge / 'socket'}", *files)
        self._wait((munge / "socket").exists, "munged")
        (self.root / "state").mkdir()
        (self.root / "slurm.conf").write_text(self._configuration())
        self._spawn(self._program("slurmctld"), "-D")
        for node in NODES:
            (self.root / "spool" / node).mkdir(parents=True)
            self._spawn(self._program("slurmd"), "-D", "-N", node, "-d", self._program("slurmstepd"))
        self._wait(lambda: self.call("sinfo", "-hN", "-pmain", "-tidle", "-o%N").split() == list(NODES), "the nodes")

    def _program(self, name: str) -> str:
        return str(next(path for end in ("-wlm", "") if (path := self.files / f"usr/sbin/{name}{end}").exists()))

    def _spawn(self, *command: str) -> None:
        log = (self.root / f"{Path(command[0]).name}.log").open("ab")
        self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True))

    def _wait(self, ready, name: str, seconds: float = 60) -> None:
        limit = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > limit:
                tails = [f"{path.name}: {path.read_text(errors='replace')[-600:]}" for path in self.root.glob("*.log")]
                raise RuntimeError(f"{name} did not start\n" + "\n".join(tails))
            time.sleep(0.1)

    def _configuration(self) -> str:
        me, root, port = getpass.getuser(), self.root, _free_ports(1 + len(NODES))
        settings = {
            "ClusterName": "vdm",
            "SlurmctldHost": f"{self.host}(127.0.0.1)",
            "SlurmctldPort": port,
            "SlurmUser": me,
            "SlurmdUser": me,
            "AuthType": "auth/munge",
            "CredType": "cred/munge",
            "AuthInfo": f"socket={root}/munge/socket,cred_expire=5",  # a requeued job waits this long before it starts
            "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
            "PluginDir": self.plugins,
            "StateSaveLocation": root / "state",
            "SlurmdSpoolDir": f"{root}/spool/%n",
            "SlurmctldPidFile": root / "slurmctld.pid",
            "SlurmdPidFile": f"{root}/slurmd-%n.pid",
            "MailProg": "/bin/true",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "MpiDefault": "none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU",
            "SlurmdParameters": "config_overrides",
            "SchedulerParameters": "sched_interval=2,sched_min_interval=0,batch_sched_delay=0,bf_interval=2",
            "SlurmctldParameters": "preempt_send_user_signal",
            "PreemptType": "preempt/partition_prio",
            "PreemptMode": "REQUEUE",
            "MinJobAge": 3600,  # finished jobs stay visible to the sacct replacement
            "KillWait": 10,
            "ReturnToService": 2,
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        for i, node in enumerate(NODES, 1):
            address = f"NodeHostname={self.host} NodeAddr=127.0.0.1 Port={port + i}"
            lines.append(f"NodeName={node} {address} CPUs=4 RealMemory=64000 State=UNKNOWN")
        nodes = ",".join(NODES)
        lines.append(f"PartitionName=main Nodes={nodes} Default=YES PriorityTier=5 PreemptMode=OFF")
        lines.append(f"PartitionName=low Nodes={nodes} PriorityTier=1 PreemptMode=REQUEUE GraceTime=30")
        lines.append(f"PartitionName=high Nodes={nodes} PriorityTier=9 PreemptMode=OFF")
        return "\n".join(lines) + "\n"


def _free_ports(count: int) -> int:
    """Return the first of ``count`` consecutive free ports."""
    for first in range(21000, 31000, count):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for i, each in enumerate(sockets):
                each.bind(("127.0.0.1", first + i))
            return first
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    raise Unavailable("no free ports")


if __name__ == "__main__":
    with Cluster() as cluster:
        for name in ("SLURM_CONF", "PATH", "LD_LIBRARY_PATH", "PYTHONPYCACHEPREFIX"):
            print(f"export {name}={cluster.environment[name]}")
        print("# running; Ctrl-C ends it", flush=True)
        signal.pause()
