// Analyze: diagnose now, sessions, and why it is as it is: open incidents with their causes, apps that are not well, the
// newest fault of each kind, exceptions out of the logs.
import { html, useState } from "../lib/core.js";
import { get, pathOf } from "../lib/api.js";
import { href, useRoute } from "../lib/route.js";
import { count } from "../lib/format.js";
import { Loading, Page, Problem, Table, useData } from "../lib/parts.js";
import { AskedWhy, When, Where } from "./blocks.js";
import { Diagnose } from "./diagnose.js";
import { COLUMNS as EXCEPTIONS } from "./exceptions.js";
import { subject } from "./incidents.js";
import { Sessions } from "./sessions.js";
import { AskWhy } from "./why.js";

const EVERY_MS = 5000;
const MOST_WHYS = 5; // explanations that are open at once
const MOST_OVER = 10;

export default function Analyze() {
  const { query } = useRoute();
  const status = useData((signal) => get("status", {}, signal), [], EVERY_MS);
  const apps = status.data?.apps || [];
  const asked = ["app", "instance", "request"].map((name) => query.get(name) || "").join("/");
  return html`<${Page} title="Analyze">
    <p class="lead">A session gathers evidence from an app, looks for what is wrong with it, and says how sure it is.</p>
    ${status.data && html`<${Diagnose} key=${asked} apps=${apps} />`}
    <${Sessions} />
    <section><h2>Why?</h2><${AskWhy} apps=${apps.map((one) => one.id)} /></section>
    <${Now} status=${status} />
    <${Faults} />
    <${Exceptions} />
  </${Page}>`;
}

/** Open incidents, apps that are not up without one, and incidents that are over. */
function Now({ status }) {
  const incidents = useData((signal) => get("incidents", { since: "24h", limit: 100 }, signal), [], EVERY_MS);
  const known = incidents.data?.items || [];
  const open = known.filter((one) => one.state === "open");
  const over = known.filter((one) => one.state !== "open").slice(0, MOST_OVER);
  const told = new Set(open.map((one) => one.app));
  const unwell = (status.data?.apps || []).filter((app) => app.state !== "up" && !told.has(app.id));
  return html`<section><h2>Now</h2>
    <${Problem} error=${incidents.error} retry=${incidents.again} />
    <${Problem} error=${status.error} retry=${status.again} />
    ${!status.data && !status.error ? html`<${Loading} />` : null}
    ${status.data && !open.length && !unwell.length ? html`<p class="empty">${status.data.verdict}</p>` : null}
    ${open.map((one, at) => html`<${Incident} key=${one.id} one=${one} open=${at < MOST_WHYS} />`)}
    ${unwell.map((app, at) => html`<${Folded} key=${app.id} open=${open.length + at < MOST_WHYS} summary=${app.verdict}>
      <${AskedWhy} path=${`apps/${pathOf(app.id)}/why`} every=${10_000} title=${false} /></${Folded}>`)}
    ${over.length ? html`<h2>Over, in the last 24 h</h2>` : null}
    ${over.map((one) => html`<${Incident} key=${one.id} one=${one} />`)}
  </section>`;
}

function Incident({ one, open }) {
  const span = one.state === "open" ? html`since <${When} at=${one.began} />`
    : html`from <${When} at=${one.began} /> to <${When} at=${one.ended} />`;
  return html`<${Folded} open=${open}
    summary=${html`<b>${one.id}</b> ${subject(one)} ${one.severity} ${span}: ${one.cause}`}>
    <${AskedWhy} path=${`incidents/${pathOf(one.id)}/why`} every=${open ? 10_000 : 0} title=${false} />
    <p><a href=${href(["incidents", one.id])}>All of ${one.id}</a></p></${Folded}>`;
}

/** What is inside is asked for only once it is opened. */
function Folded({ open: first = false, summary, children }) {
  const [open, set] = useState(first);
  return html`<details class="finding" open=${open} onToggle=${(event) => set(event.target.open)}>
    <summary>${summary}</summary>${open ? children : null}</details>`;
}

function Faults() {
  const { data, error, loading, again } = useData(
    (signal) => get("requests", { fault: "any", limit: 1000 }, signal), [], EVERY_MS);
  const kinds = grouped(data?.items || []);
  return html`<section><h2>Faults, the newest of each kind</h2>
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="faults" />` : null}
    ${data && !kinds.length ? html`<p class="empty">No fault is kept: every request could be served as asked.</p>` : null}
    ${kinds.map(({ key, newest, kept }) => html`<${Folded} key=${key}
      summary=${html`<b>${newest.fault}</b> <${Where} app=${newest.app} /> ${newest.method} ${newest.target}, ${" "}
        <${When} at=${newest.time} since /> <span class="quiet">${count(kept)} kept</span>`}>
      <${AskedWhy} key=${newest.id} path=${`requests/${pathOf(newest.id)}/why`} title=${false} />
      <p><a href=${href(["requests", newest.id])}>This request</a> · <a
        href=${href("requests", { app: newest.app, fault: newest.fault })}>All kept ones of this kind</a></p></${Folded}>`)}
  </section>`;
}

/** By app and fault: the newest, and how many of the kept ones there are. */
function grouped(items) {
  const kinds = new Map();
  for (const one of items) {
    const key = `${one.app} ${one.fault}`;
    const kind = kinds.get(key);
    if (kind) kind.kept += 1;
    else kinds.set(key, { key, newest: one, kept: 1 });
  }
  return [...kinds.values()];
}

function Exceptions() {
  const { data, error, loading, again } = useData((signal) => get("exceptions", { limit: 10 }, signal), [], EVERY_MS);
  return html`<section><h2>Exceptions in the apps' logs</h2>
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="exceptions" />` : null}
    ${data && html`<${Table} columns=${EXCEPTIONS} rows=${data.items} rowKey=${(one) => `${one.app}/${one.id}`}
      label="Exceptions" href=${(one) => href(["exceptions", one.id], { app: one.app })} empty="None was seen." />`}
    <p><a href=${href("exceptions")}>All exceptions</a></p></section>`;
}
