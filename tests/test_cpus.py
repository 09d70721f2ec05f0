"""CPUs by the quota of a control group, of version 1 or 2, and of the groups around it."""

import pytest

from vdm.cpus import allowed_cpus, quotas


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    ("line", "files", "found"),
    [
        ("0::/a/b", {"a/b/cpu.max": "150000 100000\n", "a/cpu.max": "max 100000\n"}, [1.5]),
        ("0::/a/b", {"a/b/cpu.max": "max 100000\n", "cpu.max": "400000 100000\n"}, [4.0]),
        (
            "4:cpu,cpuacct:/a",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            [0.5],
        ),
        ("4:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, []),
        ("3:memory:/a", {"memory/a/cpu.max": "1 1"}, []),
        ("0::/", {}, []),
        ("0::/a", {"a/cpu.max": "nonsense"}, []),
    ],
)
def test_quotas_of_a_process(line, files, found, tmp_path):
    write(tmp_path / "groups", files)
    (tmp_path / "cgroup").write_text(f"{line}\n")
    assert list(quotas(tmp_path / "cgroup", tmp_path / "groups")) == found


def test_a_machine_without_control_groups_has_no_quota(tmp_path):
    assert list(quotas(tmp_path / "none", tmp_path)) == []


def test_allowed_cpus_are_those_of_the_affinity(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    monkeypatch.setattr("vdm.cpus.quotas", lambda *_: iter([1.5, 8.0]))
    assert allowed_cpus() == 2
    monkeypatch.setattr("vdm.cpus.quotas", lambda *_: iter([0.1]))
    assert allowed_cpus() == 1
    monkeypatch.setattr("vdm.cpus.quotas", lambda *_: iter([]))
    assert allowed_cpus() == 3
