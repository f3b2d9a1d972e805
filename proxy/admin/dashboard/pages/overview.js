// The first page: how it is, whose doing it is, what is open, and all apps and instances in one table.
import { html } from "../lib/core.js";
import { get } from "../lib/api.js";
import { AppActs, InstanceActs } from "../lib/acts.js";
import { ago, bytes, clock, cores, count, ms, percent, rate, seconds, stamp } from "../lib/format.js";
import { history, useLive } from "../lib/live.js";
import { Menu } from "../lib/menu.js";
import {
  Bar, Filters, InstanceState, Loading, Page, Problem, Spark, State, Table, Time, useData,
} from "../lib/parts.js";
import { href, useRoute } from "../lib/route.js";

/** The page of `#/` and `#/apps`. */
export default function Overview() {
  const { live, error } = useLive();
  if (!live) {
    return html`<${Page} title="Overview"><${Problem} error=${error} />
      ${!error && html`<${Loading} what="what goes on" />`}<//>`;
  }
  document.title = live.state === "up" ? "Triage" : `${live.state} · Triage`;
  return html`<article class="page live">
    <${Verdict} live=${live} />
    <${Figures} gateway=${live.gateway} check=${live.self_check} />
    <${NewestFault} fault=${live.fault} />
    <${Incidents} incidents=${live.incidents} />
    <${Notices} notices=${live.notices} />
    <${Instances} live=${live} />
    <${Newest} />
  </article>`;
}

function Verdict({ live: { verdict, state, incidents, is_it_words: words } }) {
  const [first] = [...incidents].sort((one, other) => rank(one) - rank(other));
  return html`<section class="verdict ${state}">
    <h1 tabindex="-1" aria-live="polite">${verdict}</h1>
    ${words && html`<p>${words}</p>`}
    ${first && html`<p>Since <${Time} at=${first.began} /> (${ago(first.began)}),
      ${" "}${percent(first.share)} of ${first.app ? `${first.app}'s` : "all"} requests were hit.</p>`}
  </section>`;
}

/** What is down comes first, then what began first. */
const rank = (one) => Number(one.id.slice(4)) + (one.severity === "down" ? 0 : 1e9);

function Figures({ gateway, check }) {
  return html`<dl class="facts">
    <${Fact} name="Requests/s" value=${rate(gateway.requests_per_s)} />
    <${Fact} name="Faults/s" value=${rate(gateway.faults_per_s)} bad=${gateway.faults_per_s > 0} />
    <${Fact} name="In flight" value=${count(gateway.in_flight)} />
    <${Fact} name="Client connections" value=${count(gateway.connections)} />
    <${Fact} name="Triage's own time" value=${ms(gateway.own_ms)} hint="Of one request, on average" />
    <${Fact} name="Triage's CPU" value=${`${cores(gateway.cpu)} cores`} />
    <${Fact} name="Triage's memory" value=${bytes(gateway.memory)} />
    <${Fact} name="Self-check" value=${check.ok ? ms(check.ms) : check.words} bad=${!check.ok}
      hint="Triage's own answer, through its own listener" />
  </dl>`;
}

function Fact({ name, value, bad, hint }) {
  return html`<div title=${hint}><dt>${name}</dt><dd class=${bad ? "bad-words" : ""}>${value}</dd></div>`;
}

/** What an operator should know and would not look for: losses, and what cannot be written. */
function Notices({ notices }) {
  return notices.length > 0 && html`<ul class="note plain-list">
    ${notices.map((words) => html`<li key=${words}>${words}</li>`)}</ul>`;
}

/** The last request that failed: it comes the moment that it is known. */
function NewestFault({ fault }) {
  return fault && html`<p>Newest fault: <a href=${href(["requests", fault.id])}>${fault.status} ${fault.fault}</a>
    ${" "}${fault.method} ${fault.target}, ${fault.app}, <${Time} at=${fault.time} /> (${ago(fault.time)})</p>`;
}

const INCIDENT = [
  { id: "id", title: "Open incident", cell: (one) => one.id },
  { id: "of", title: "Of", cell: (one) => one.app || `the ${one.scope}` },
  { id: "severity", title: "State", cell: (one) => html`<${State} value=${one.severity} />` },
  { id: "cause", title: "Cause", wide: true, cell: (one) => one.cause },
  { id: "began", title: "Since", cell: (one) => html`<${Time} at=${one.began} /> (${ago(one.began)})` },
  { id: "share", title: "Requests hit", num: true, cell: (one) => percent(one.share) },
];

function Incidents({ incidents }) {
  return incidents.length > 0 && html`<${Table} columns=${INCIDENT} rows=${incidents} label="Open incidents"
    href=${(one) => href(["incidents", one.id])} />`;
}

// --- apps and instances: rows are what the stream has of one, and its past -----------------------------

const COLUMNS = [
  { id: "name", title: "App, instance", cell: (row) => row.id },
  { id: "state", title: "State", cell: (row) => (row.isApp ? html`<${AppState} app=${row} />`
    : html`<${InstanceState} instance=${row} />`) },
  { id: "requests", title: "Req/s", num: true, cell: (row) => rate(row.requests_per_s), hint: "Requests a second" },
  { id: "faults", title: "Faults/s", num: true, hint: "Requests that failed, not by the clients' own doing",
    cell: (row) => html`<span class=${row.faults_per_s > 0 ? "bad-words" : ""}>${rate(row.faults_per_s)}</span>` },
  { id: "latency", title: "p50 / p99", num: true, hint: "Half, and 99 of 100, were answered within",
    cell: (row) => `${ms(row.p50_ms)} / ${ms(row.p99_ms)}` },
  { id: "flight", title: "In flight", num: true, hint: "Of its slots, where max_inflight sets a limit",
    cell: (row) => `${count(row.in_flight)}${row.slots ? ` / ${count(row.slots)}` : ""}` },
  { id: "cpu", title: "CPU", num: true, cell: (row) => cores(row.cpu), hint: "Cores, over the last seconds" },
  { id: "memory", title: "Memory", num: true, cell: (row) => html`<${Bar} value=${row.memory} limit=${row.memory_limit}
    words=${bytes(row.memory)} title=${row.memory_limit && `of ${bytes(row.memory_limit)}`} />` },
  { id: "uptime", title: "Up", num: true, cell: (row) => (row.isApp ? "" : seconds(row.uptime_s)) },
  { id: "restarts", title: "Restarts", num: true, cell: (row) => count(row.restarts) },
  { id: "spark", title: "15 min", num: true, hint: "Requests a second, and faults over them, in the last 15 minutes",
    cell: (row) => html`<${Spark} width=${80} values=${row.past} also=${row.pastFaults}
      label=${`Requests a second of ${row.id}, last 15 minutes`} />` },
  { id: "act", title: "", cell: (row) => html`<${Menu} label=${`Acts on ${row.id}`}>${row.isApp
    ? html`<${AppActs} app=${row} />` : html`<${InstanceActs} instance=${row} />`}<//>` },
];

function AppState({ app: { id, state, verdict, ready, wanted, waiting, muted_until: muted } }) {
  // What the verdict says beyond what the row shows already.
  const reasons = verdict.replace(`${id} is ${state}: `, "").replace(/^\d+ of \d+ ready(; |, |$)/, "");
  return html`<${State} value=${state} /> ${ready} of ${wanted} ready${waiting ? `, ${waiting} wait` : ""}
    ${muted && html`<small title=${stamp(muted)}>muted until ${clock(muted)}</small>`}
    ${state !== "up" && html`<small>${reasons}</small>`}`;
}

const FIELDS = [
  { name: "find", label: "Find", placeholder: "name or state" },
  { name: "only", label: "Show", type: "select", options: [["", "all"], ["trouble", "what is not well"]] },
];

function Instances({ live: { apps, instances } }) {
  const { query } = useRoute();
  const find = (query.get("find") || "").toLowerCase(), only = query.has("only");
  const rows = apps.flatMap((app) => rowsOf(app, instances.filter((one) => one.app === app.id), find, only));
  const empty = find || only ? "Nothing matches." : "There is no app yet: add one to the config.";
  return html`<${Filters} fields=${FIELDS}>
      <span class="quiet">${count(apps.length)} apps, ${count(instances.length)} instances</span><//>
    <${Table} columns=${COLUMNS} rows=${rows} label="Apps and instances" empty=${empty}
      rowKey=${(row) => (row.isApp ? row.id : `${row.app}/${row.id}`)}
      kind=${(row) => (row.isApp ? "app-row" : "instance-row")}
      href=${(row) => href(row.isApp ? ["apps", row.id] : ["apps", row.app, row.id])} />`;
}

/** An app and those of its instances that are asked for; nothing where neither is. */
function rowsOf(app, instances, find, only) {
  const matches = (...words) => words.join(" ").toLowerCase().includes(find);
  const shown = instances.filter((one) => (!only || troubled(one))
    && matches(app.id, one.id, one.lifecycle, one.admission, one.why));
  if (!shown.length && !(matches(app.id, app.state) && (!only || app.state !== "up"))) return [];
  shown.sort((one, other) => one.id.localeCompare(other.id, "en", { numeric: true }));
  const whole = { ...app, ...sums(instances), isApp: true };
  return [withPast(whole, app.id, ""), ...shown.map((one) => withPast(one, app.id, one.id))];
}

const withPast = (row, app, instance) => ({
  ...row, past: history(app, instance, "requests_per_s"), pastFaults: history(app, instance, "faults_per_s"),
});

const troubled = (one) => one.lifecycle !== "ready" || one.admission !== "admitting" || one.faults_per_s > 0;

/** What an app's instances use together; null where none says it. */
function sums(instances) {
  const sum = (name) => {
    const known = instances.map((one) => one[name]).filter((value) => value !== null);
    return known.length ? known.reduce((before, value) => before + value, 0) : null;
  };
  return { cpu: sum("cpu"), memory: sum("memory"), restarts: sum("restarts") };
}

function Newest() {
  const { data, error } = useData((signal) => get("events", { limit: 8 }, signal), [], 5000);
  return html`<h2>Newest events</h2><${Problem} error=${error} />
    <ul class="lines">${data?.items.map((one) => html`<li key=${one.id}><${Time} at=${one.time} />
      <span class="grow">${one.words}</span><span class="quiet">${one.kind}</span></li>`)}</ul>
    <p><a href=${href("events")}>All events</a></p>`;
}
