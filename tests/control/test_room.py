"""What a further process could take, from files as the kernel writes them."""

from pathlib import Path

import pytest

from proxy.control import room


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    (tmp_path / "cgroup").write_text("0::/a/b\n")
    (tmp_path / "fs" / "a" / "b").mkdir(parents=True)
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(room, "OWN", tmp_path / "cgroup")
    monkeypatch.setattr(room, "ROOT", tmp_path / "fs")
    return tmp_path


def limit(folder: Path, most: str, used: int, cache: int = 0) -> None:
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")


def test_without_limits_it_is_the_hosts(kernel: Path) -> None:
    assert room.free() == 4000 * 1024
    limit(kernel / "fs" / "a" / "b", "max", 100)
    assert room.free() == 4000 * 1024


def test_the_tightest_cgroup_above_counts_and_cache_is_free(kernel: Path) -> None:
    limit(kernel / "fs" / "a" / "b", "2000000", 100000)
    limit(kernel / "fs" / "a", "1000000", 900000, cache=50000)
    assert room.free() == 150000


def test_version_1(kernel: Path) -> None:
    (kernel / "cgroup").write_text("5:cpu:/x\n3:memory:/elsewhere\n")
    folder = kernel / "fs" / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("1000000\n")
    (folder / "memory.usage_in_bytes").write_text("400000\n")
    (folder / "memory.stat").write_text("total_inactive_file 100000\n")
    assert room.free() == 700000
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert room.free() == 4000 * 1024


def test_nothing_is_known_where_nothing_can_be_read(kernel: Path) -> None:
    (kernel / "meminfo").unlink()
    (kernel / "cgroup").unlink()
    assert room.free() is None
