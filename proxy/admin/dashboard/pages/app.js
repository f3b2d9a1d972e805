// One app: how it is, its instances, and its last minutes or months in charts that share one axis.
import { html } from "../lib/core.js";
import { get, pathOf } from "../lib/api.js";
import { AppActs } from "../lib/acts.js";
import { bytes, cores, count, ms, percent, rate, seconds } from "../lib/format.js";
import { useLive } from "../lib/live.js";
import {
  Bar, ByHand, Coded, InstanceState, Loading, Page, Problem, State, Table, Time, UnderWay, useData,
} from "../lib/parts.js";
import { href } from "../lib/route.js";
import { HeatmapOf, Series, useMarks } from "../lib/series.js";
import { SpanChooser, spanOf } from "../lib/span.js";

/** The page of `#/apps/web`. */
export default function App({ route }) {
  const app = route.path[1];
  const span = spanOf(route.query);
  const { live } = useLive();
  const { data, error, again } = useData((signal) => get(pathOf("apps", app), {}, signal), [app], 5000);
  const marks = useMarks(span, app, "");
  if (!data) {
    return html`<${Page} title=${app}>${error ? html`<${Problem} error=${error} retry=${again} />`
      : html`<${Loading} what=${app} />`}<//>`;
  }
  const now = { ...data, ...live?.apps.find((one) => one.id === app) };
  const acts = html`<div class="chips"><${AppActs} app=${now} /></div>`;
  return html`<${Page} title=${app} aside=${acts}>
    <${Problem} error=${error} retry=${again} />
    <${Now} app=${now} />
    <${Open} incidents=${(live?.incidents || []).filter((one) => one.app === app)} />
    <${SpanChooser} span=${span} />
    <div class="charts"><${Charts} app=${app} shared=${{ span, marks }} /></div>
    <h2>Instances</h2>
    <div class="live"><${Table} columns=${INSTANCES} rows=${withLive(data.instances, live, app)} label="Instances"
      empty="It has no instance now." href=${(one) => href(["apps", one.app, one.id])} /></div>
    <${Rules} app=${app} />
    <p class="links">${["requests", "logs", "events", "exceptions"].map((page) => html`
      <a key=${page} href=${href(page, { app })}>Its ${page}</a> `)}
      <a href=${href("metrics", { app })}>More metrics</a></p>
  <//>`;
}

function Now({ app }) {
  const faults = Object.entries(app.recent_faults);
  const facts = [
    ["Serves", [...app.hosts, ...app.paths].join(", ")],
    ["Ready", `${app.ready} of ${app.wanted}`],
    ["Requests/s", rate(app.requests_per_s)],
    ["p50 / p99", `${ms(app.p50_ms ?? app.response_ms.p50)} / ${ms(app.p99_ms ?? app.response_ms.p99)}`],
    ["In flight", `${count(app.in_flight)}${app.slots ? ` of ${count(app.slots)}` : ""}`],
    ["Waiting", count(app.waiting)],
    ["Version", app.version || "–"],
    ["Faults, last 5 min", faults.length ? faults.map(([name, many]) => html`
      <a key=${name} href=${href("requests", { app: app.id, fault: name })}>${count(many)} ${name}</a> `) : "none"],
  ];
  return html`<section class="verdict live ${app.state}"><p><${State} value=${app.state} /> ${app.verdict}</p>
      <${ByHand} set=${app.by_hand} />
      ${app.operations.map((one) => html`<${UnderWay} key=${one.id} operation=${one} />`)}
    </section>
    <dl class="facts live">
      ${facts.map(([word, value]) => html`<div key=${word}><dt>${word}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Open({ incidents }) {
  return incidents.map((one) => html`<p class="note" key=${one.id}>
    <a href=${href(["incidents", one.id])}>${one.id}</a> <${State} value=${one.severity} />
    since <${Time} at=${one.began} />: ${one.cause}; ${percent(one.share)} of its requests were hit.</p>`);
}

// --- charts ------------------------------------------------------------------------------------------

const CLASSES = {
  status_2xx: "2xx", status_3xx: "3xx", status_4xx: "4xx", status_5xx: "5xx", status_none: "no answer",
};
const CLASS_COLOURS = { "2xx": "--good", "3xx": "--c6", "4xx": "--busy", "5xx": "--bad", "no answer": "--c8" };
const LOAD = { in_flight: "in flight", queue: "waiting for a slot" };

function Charts({ app, shared }) {
  const times = ["p50", "p90", "p99"].map((stat) => ({ name: "response_time", app, stat }));
  const each = (name) => [{ name, app, instance: "each" }];
  const byInstance = ({ instance }) => instance;
  return html`
    <${Series} ...${shared} title="Requests a second, by status class" stacked unit="" colours=${CLASS_COLOURS}
      asks=${[{ name: Object.keys(CLASSES).join(","), app }]} named=${({ name }) => CLASSES[name]} />
    <${Series} ...${shared} title="Faults a second" unit="" asks=${[{ name: "faults", app }]}
      named=${() => "faults"} colours=${{ faults: "--bad" }} />
    <${Series} ...${shared} title="How long answers took" asks=${times} named=${({ stat }) => stat} />
    <${HeatmapOf} span=${shared.span} title="How long answers took, all of them"
      ask=${{ name: "response_time", app }} />
    <${Series} ...${shared} title="In flight and waiting" unit="" asks=${[{ name: "in_flight,queue", app }]}
      named=${({ name }) => LOAD[name]} />
    <${Series} ...${shared} title="Memory of each instance" asks=${each("memory")} named=${byInstance} />
    <${Series} ...${shared} title="CPU of each instance, cores" asks=${each("cpu")} named=${byInstance} />
    <${Series} ...${shared} title="Requests a second of each instance" unit="" asks=${each("requests")}
      named=${byInstance} />`;
}

// --- its instances and rules -------------------------------------------------------------------------

const INSTANCES = [
  { id: "id", title: "Instance", cell: (one) => one.id, sort: (one) => one.id },
  { id: "state", title: "State", cell: (one) => html`<${InstanceState} instance=${one} />` },
  { id: "rate", title: "Req/s", num: true, cell: (one) => rate(one.requests_per_s), sort: (one) => one.requests_per_s },
  { id: "p99", title: "p50 / p99", num: true, sort: (one) => one.p99_ms,
    cell: (one) => `${ms(one.p50_ms)} / ${ms(one.p99_ms)}` },
  { id: "flight", title: "In flight", num: true, cell: (one) => count(one.in_flight), sort: (one) => one.in_flight },
  { id: "cpu", title: "CPU", num: true, cell: (one) => cores(one.cpu), sort: (one) => one.cpu },
  { id: "memory", title: "Memory", num: true, sort: (one) => one.memory,
    cell: (one) => html`<${Bar} value=${one.memory} limit=${one.memory_limit} words=${bytes(one.memory)} />` },
  { id: "up", title: "Up", num: true, cell: (one) => seconds(one.uptime_s), sort: (one) => one.uptime_s },
  { id: "exit", title: "Last exit", wide: true, cell: (one) => one.last_exit?.words },
];

/** What was asked for some seconds ago, with what the stream says now. */
function withLive(instances, live, app) {
  const now = new Map((live?.instances || []).filter((one) => one.app === app).map((one) => [one.id, one]));
  return instances.map((one) => {
    const { p50, p99 } = one.response_ms;
    return { p50_ms: p50, p99_ms: p99, ...one, ...now.get(one.id) };
  });
}

const RULES = [
  { id: "name", title: "Rule", cell: (one) => html`${one.name}
    ${one.builtin && html` <span class="quiet">built in</span>`}` },
  { id: "when", title: "When", wide: true, cell: (one) => html`<${Coded} text=${one.when} />` },
  { id: "then", title: "Then", cell: (one) => `${one.then.join(", ")}${one.dry_run ? " (only says so)" : ""}` },
  { id: "state", title: "State", cell: (one) => html`<${State} value=${one.state} />` },
  { id: "near", title: "How near", wide: true, cell: ({ nearest }) => (nearest ? html`<${Bar} value=${nearest.share}
    limit=${1} words=${percent(nearest.share)} /><small>${nearest.distance}</small>` : "–") },
  { id: "why", title: "What it sees", wide: true, cell: (one) => one.why },
];

function Rules({ app }) {
  const path = `${pathOf("apps", app)}/autoheal`;
  const { data, error, again } = useData((signal) => get(path, { limit: 1 }, signal), [path], 5000);
  const rules = [...(data?.rules || [])].sort((one, other) => (other.nearest?.share || 0) - (one.nearest?.share || 0));
  return html`<h2>Its rules, the nearest to firing first</h2><${Problem} error=${error} retry=${again} />
    ${data && html`<${Table} columns=${RULES} rows=${rules} label="Rules" empty="No rule watches it." />`}
    <p><a href=${href("mitigate", { app })}>What they did, and would have done</a></p>`;
}
