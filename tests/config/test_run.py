"""`triage run -- COMMAND` is a config like any other."""

import os
from pathlib import Path

import pytest

from proxy.config import ConfigProblems, Listen, for_command, parse


@pytest.mark.parametrize(
    "argv",
    [
        ["uvicorn", "app:app", "--port", "{port}"],
        ["npm", "start"],
        ["sh", "-c", "echo \"$PORT\" '${HOME}' \\ # \n\t\x7f; exec app"],
        ["app", "", "ü", '{"a": 1}', "--x=y z"],
    ],
)
def test_the_printed_file_means_the_same(argv: list[str], tmp_path: Path) -> None:
    config, text = for_command(argv, 3, ["127.0.0.1:0", "unix:/tmp/a.sock"], tmp_path / "state")
    process = config.apps["web"].process
    assert process is not None
    assert process.command == tuple(argv)
    assert process.instances == 3
    assert process.cwd == os.getcwd()
    assert process.inherit_env == ("*",)
    assert config.gateway.listen == (Listen("tcp", "127.0.0.1", 0), Listen("unix", path="/tmp/a.sock"))
    assert config.gateway.data_dir == f"{tmp_path}/state"
    assert parse(text, tmp_path / "elsewhere.toml") == config


def test_where_the_command_finds_it(tmp_path: Path) -> None:
    config, text = for_command(
        ["app"], 1, ":0", tmp_path, admin="127.0.0.1:7", socket=tmp_path / "a.sock", name="shop"
    )
    assert list(config.apps) == ["shop"]
    assert config.admin.listen == Listen("tcp", "127.0.0.1", 7)
    assert config.admin.socket == f"{tmp_path}/a.sock"
    assert parse(text, "/elsewhere.toml") == config


def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigProblems, match=r"triage run:\d+: apps\.web\.process\.command: unknown placeholder"
    ):
        for_command(["app", "{prot}"], 1, "127.0.0.1:0", tmp_path)
    with pytest.raises(ConfigProblems, match=r"command: splits to nothing|got an empty string"):
        for_command([], 1, "127.0.0.1:0", tmp_path)
    with pytest.raises(ConfigProblems, match=r"is no name"):
        for_command(["app"], 1, "127.0.0.1:0", tmp_path, name='a "b"')
