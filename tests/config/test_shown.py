"""GET /api/v1/config shows a config without the secrets in it."""

import json
from collections.abc import Callable

import pytest

from proxy.config import Config, masked, shown

Read = Callable[..., Config]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LOG_LEVEL", "info", "info"),
        ("DB_PASSWORD", "hunter2", "***"),
        ("api_token", "abc", "***"),
        ("SENTRY_DSN", "https://abc@sentry.example/1", "***"),
        ("AWS_SECRET_ACCESS_KEY", "abc", "***"),
        ("API_TOKEN", "", ""),
        ("DATABASE_URL", "postgres://app:hunter2@db:5432/x", "postgres://app:***@db:5432/x"),
        ("REDIS_URL", "redis://:hunter2@db", "redis://:***@db"),
        ("PAGE", "https://example.com/a:b@c", "https://example.com/a:b@c"),
    ],
)
def test_variables(name: str, value: str, said: str) -> None:
    assert masked(name, value) == said


def test_no_secret_is_shown(read: Read) -> None:
    config = read(
        """
[apps.web.process]
command = "app --token hunter2 --db=postgres://u:hunter2@db --api-key=hunter2 --port {port} 'two words'"
user = "root"
env = { SECRET = "hunter2", DB = "mysql://u:hunter2@db", PLAIN = "seen" }
[[apps.web.autoheal]]
name = "a"
when = { age = { above = "1h" } }
then = [{ run = ["notify", "PASSWORD=hunter2"] }]
[apps.given]
paths = ["/given"]
addresses = ["http://a"]
recycle = { command = ["restart", "--password", "hunter2", "{name}"] }
[notify.ops]
webhook = "https://u:hunter2@hooks.example/services/hunter2?x=hunter2"
[notify.dev]
slack = "https://hooks.slack.example/services/hunter2"
[notify.run]
command = ["send", "--auth=hunter2"]
""",
        process="",
    )
    tables = shown(config)
    text = json.dumps(tables)
    assert "hunter2" not in text
    assert tables["apps"]["web"]["process"]["command"] == (
        "app --token '***' --db=postgres://u:'***'@db --api-key='***' --port {port} 'two words'"
    ).replace("--db=postgres://u:'***'@db", "'--db=postgres://u:***@db'").replace(
        "--api-key='***'", "'--api-key=***'"
    )
    assert tables["apps"]["web"]["process"]["env"]["PLAIN"] == "seen"
    assert tables["notify"]["ops"]["webhook"] == "https://hooks.example/***"
    assert tables["apps"]["web"]["process"]["stop"] == {"signal": "TERM", "timeout": "30s"}


def test_thresholds_are_shown_as_they_are_written(read: Read) -> None:
    config = read(
        """
[[apps.web.autoheal]]
name = "big"
when = { memory = { above = "150MB", for = "5s" } }
then = ["recycle"]
[[apps.web.autoheal]]
name = "many"
when = { requests = { above = 100000 } }
then = ["recycle"]
"""
    )
    rules = shown(config)["apps"]["web"]["autoheal"]
    assert [rule["when"] for rule in rules] == [
        {"memory": {"above": "150MB", "for": "5s"}},
        {"requests": {"above": 100000}},
    ]
