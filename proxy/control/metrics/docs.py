"""docs/metrics.md, made from the tables: `python -m proxy.control.metrics.docs`."""

from __future__ import annotations

import sys
from typing import Final

from proxy.control.metrics.families import FAMILIES
from proxy.control.metrics.table import METRICS, STATS, Metric

HEAD: Final = """# Metrics

<!-- Made from proxy/control/metrics/table.py and families.py by `make docs`. Do not edit. -->

Everything that Triage measures. `triage metrics` and `GET /api/v1/metrics` list the same; the dashboard can chart any
of them per app or instance.

## Asking

`GET /api/v1/metrics/query?name=response_time&app=web&stat=p99&from=1h` answers series of points `[Unix second, value]`,
each at the end of its step. A step in which nothing is known is `null`, never 0.

| parameter | |
|---|---|
| `name` | ids of the tables below, several with commas |
| `app` | a name, `each`, or nothing: the gateway itself (of metrics of apps: all apps together) |
| `instance` | a name, `each`, or nothing: the app as a whole. Of the gateway: `worker1`, `control`, `launcher` |
| `fault` | with `faults`: only those of this name of [faults.md](faults.md) |
| `stat` | see below |
| `from`, `to` | how far back (`15m`) or a time; default: the last 15 minutes |
| `step` | of each point; default: so that there are 300 at most |

The answer says its source: seconds of the last 15 minutes from memory, then points of 10 s for a day, of 1 min for a
week and of 1 h for 90 days from the store. Percentiles always come from histograms that were added up, never from
percentiles of shorter times; a histogram has eight steps per doubling, so that they are right to some 6 %.

| kind | stats | |
|---|---|---|
| counter | COUNTER | `rate` is per second of the time that is known: a gap or a restart neither adds nor takes away |
| gauge | GAUGE | `mean` is weighed by time |
| histogram | HISTOGRAM | `max` is the upper end of the highest step; `heatmap` gives `[from, to, count]` in seconds |

"""
PROMETHEUS: Final = """## Prometheus and OpenMetrics

`GET /metrics` at the admin address, with the token unless `admin.metrics` is true. With
`Accept: application/openmetrics-text` it is OpenMetrics 1.0; buckets of `triage_request_duration_seconds` then carry
exemplars with the `request_id` of a kept request, which `triage why` explains. Sums begin with control's start
(`triage_control_start_time_seconds`).

| name | type | unit | labels | meaning |
|---|---|---|---|---|
"""


def main() -> None:
    """Write it to standard output."""
    text = HEAD
    for kind, stats in STATS.items():
        text = text.replace(kind.upper(), ", ".join(f"`{stat}`" for stat in stats), 1)
    sections = (
        ("Of apps and instances", [metric for metric in METRICS if metric.of_apps]),
        ("Of Triage itself and the host", [metric for metric in METRICS if not metric.of_apps]),
    )
    for title, metrics in sections:
        text += f"## {title}\n\n| id | kind | unit | of | stat if none is asked for | meaning | OpenTelemetry |\n"
        text += "|---|---|---|---|---|---|---|\n"
        text += "".join(map(_row, metrics)) + "\n"
    text += PROMETHEUS
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        text += f"| `{family.name}` | {family.type} | {family.unit} | {labels} | {family.meaning} |\n"
    sys.stdout.write(text)


def _row(metric: Metric) -> str:
    return (
        f"| `{metric.id}` | {metric.kind} | {metric.unit} | {', '.join(metric.of)} | `{metric.default_stat}` |"
        f" {metric.meaning} | `{metric.otel}` |\n"
    )


if __name__ == "__main__":
    main()
