"""Section 6 of the design, as a file: it is valid, and each default it states is the code's."""

import re
import shutil
from pathlib import Path

import msgspec
import pytest

from proxy.config import Condition, Listen, Step, load, parse, shown

WHOLE = Path(__file__).with_name("whole.toml")


@pytest.fixture
def whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_SHA", "a1b2c3")
    return Path(shutil.copy(WHOLE, folder / "config.toml"))


def test_it_parses(whole: Path) -> None:
    config = load(whole)
    app = config.apps["web"]
    assert config.gateway.listen == (Listen("tcp", "127.0.0.1", 8080),)
    assert config.gateway.certificates[0].cert == str(whole.parent / "cert.pem")
    assert app.hosts == ("example.com", "*.example.com")
    assert app.process is not None
    assert app.process.command == ("uvicorn", "app:app", "--port", "{port}")
    assert app.process.version == "a1b2c3"
    assert app.process.memory == 512_000_000
    assert app.health.status == ((200, 299),)
    assert app.autoheal[0].when == Condition("slow", above=5.0, count=20, within=60.0, path="/api/*")
    assert app.autoheal[0].then == (Step("collect"), Step("recycle"))
    assert app.scale is not None
    assert app.scale.in_ == (Condition("cpu", below=0.3, relative=True, for_=300.0),)
    given = config.apps["given"].addresses
    assert [address.name for address in given] == ["10.0.0.5:8000", "b"]
    assert given[1].tls.ca == str(whole.parent / "ca.pem")
    assert config.keep.sessions.age == 20 * 86400


def test_each_default_stated_is_the_default(whole: Path) -> None:
    """Taking away every line marked as a default changes nothing."""
    text = whole.read_text().replace("instances = 2 ", "instances = 1 ")
    kept, in_keep = [], False
    for line in text.splitlines():
        in_keep = line.startswith("[keep]") if line.startswith("[") else in_keep
        if line.startswith("["):
            kept.append(line)
            continue
        default = re.search(r"# =", line) or (in_keep and "=" in line and "e.g." not in line)
        kept.append("#" if default else line)
    less = "\n".join(kept)
    assert len([line for line in kept if line == "#"]) > 50
    assert parse(less, whole) == parse(text, whole)


def test_it_is_shown_as_it_was_written(whole: Path) -> None:
    """Conditions, steps, statuses and units come back as their text."""
    tables = shown(load(whole))
    msgspec.json.encode(tables)
    web = tables["apps"]["web"]
    assert web["autoheal"][0]["when"] == {"slow": {"above": "5s", "count": 20, "path": "/api/*"}}
    assert web["scale"]["out"] == [
        {"cpu": {"above": "70%", "for": "1m"}}, {"queue": {"above": 10.0, "for": "10s"}}
    ]  # fmt: skip
    assert web["health"]["status"] == "200-299"
    assert web["process"]["memory"] == "512MB"
    assert web["timeouts"]["first_byte"] == "30s"
