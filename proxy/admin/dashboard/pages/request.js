// One request: why it ended so, where its time went, each try, and all that is recorded of it.
import { html } from "../lib/core.js";
import { get, pathOf } from "../lib/api.js";
import { href, useRoute } from "../lib/route.js";
import { bytes, ms, stamp } from "../lib/format.js";
import { Loading, Page, Problem, Table, useData } from "../lib/parts.js";
import { Copy, Facts, When, Where, Why } from "./blocks.js";
import { Outcome } from "./requests.js";

const PHASES = [
  ["head", "head", "the client's head on its way"], ["queue", "queue", "waiting for a slot of an instance"],
  ["connect", "connect", "connecting to the instance"], ["tls", "TLS", "TLS with the instance"],
  ["wait", "wait", "from the request's last byte until the first of the answer"],
  ["body", "body", "the answer's body on its way"],
];

const TRIES = [
  { id: "try", title: "Try", cell: (one) => one.number },
  { id: "instance", title: "Instance", cell: (one) => html`<${Where} app=${one.app} instance=${one.instance} />` },
  { id: "came", title: "Came to", wide: true,
    cell: (one) => `${one.fault || one.status || "answered"}${one.detail ? `: ${one.detail}` : ""}` },
  { id: "connection", title: "Connection",
    cell: (one) => (one.reused ? `reused${one.idle_ms !== undefined ? `, idle ${ms(one.idle_ms)}` : ""}` : "new") },
  { id: "connect", title: "Connect", num: true, cell: (one) => ms(one.connect_ms) },
  { id: "wait", title: "Waited", num: true, cell: (one) => ms(one.wait_ms) },
  { id: "sent", title: "Sent of it", num: true, cell: (one) => bytes(one.sent) },
];

export default function Request() {
  const id = useRoute().path[1] || "latest";
  const { data: why, error, loading, again } = useData((signal) => get(`requests/${pathOf(id)}/why`, {}, signal), [id]);
  const one = why?.request;
  return html`<${Page} title=${`Request ${why?.id || id}`} heading=${one
    ? html`<${Outcome} of=${one} /> <span class="target">${one.method} ${one.target}</span>` : `Request ${id}`}>
    <${Problem} error=${error} retry=${again} />
    ${loading && !why ? html`<${Loading} what="the request" />` : null}
    ${one && html`<${Phases} of=${one} />`}
    ${why && html`<${Why} why=${why} title=${!one} />`}
    ${one?.attempts?.length ? html`<h2>Tries</h2><${Table} columns=${TRIES} label="Tries" rowKey=${(row) => row.number}
      rows=${one.attempts.map((row, at) => ({ ...row, app: one.app, number: at + 1 }))} />` : null}
    ${one?.app && html`<p class="links"><a href=${href("analyze", { app: one.app, request: one.id })}>Diagnose
      ${" "}${one.app} because of it</a></p>`}
    ${one && html`<${Story} id=${one.id} />`}
    ${one && html`<h2>Recorded</h2><${Recorded} of=${one} />`}
  </${Page}>`;
}

const STEPS = [
  { id: "at", title: "After", num: true, cell: (one) => ms(one.at_ms) },
  { id: "phase", title: "What", cell: (one) => one.phase },
  { id: "note", title: "", wide: true, cell: (one) => one.note },
];

/** Its whole story, where `keep.whole` asked for one. */
function Story({ id }) {
  const { data } = useData((signal) => get(`requests/${pathOf(id)}`, {}, signal), [id]);
  const story = data?.story;
  if (!story) return null;
  return html`<h2>Whole story</h2>
    <${Table} columns=${STEPS} label="What happened when" rowKey=${(row) => row.key}
      rows=${story.phases.map((row, key) => ({ ...row, key }))} />
    ${["request", "response"].map((name) => story[name] && html`<details key=${name}><summary>Head of the ${name}</summary>
      <pre>${[story[name].line, ...story[name].fields.map(([field, value]) => `${field}: ${value}`)].join("\n")}</pre>
    </details>`)}
    ${story.cut && html`<p>It was larger: the rest of it is not kept.</p>`}`;
}

/** The phases of a request as one bar, each as wide as its share of the time. */
function Phases({ of }) {
  const { timings } = of;
  const found = PHASES.map(([name, label, title]) => ({ name, label, title, value: timings[`${name}_ms`] }))
    .filter((phase) => phase.value !== undefined && phase.value !== null);
  const sum = found.reduce((total, phase) => total + phase.value, 0) || 1;
  const words = found.map((phase) => `${phase.label} ${ms(phase.value)}`).join(", ");
  return html`<figure class="phases" aria-label=${`Where the time went: ${words}`}>
    <div class="phase-bar" aria-hidden="true">${found.map((phase) => html`
      <span key=${phase.name} class=${`phase phase-${phase.name}`} title=${`${phase.title}: ${ms(phase.value)}`}
        style=${{ width: `${(phase.value / sum) * 100}%` }}></span>`)}</div>
    <figcaption>${found.map((phase) => html`<span key=${phase.name} title=${phase.title}>
      <i class=${`swatch phase-${phase.name}`}></i>${phase.label} <b>${ms(phase.value)}</b></span>`)}
      <span>total <b>${ms(timings.total_ms)}</b></span>
      ${timings.own_ms !== undefined && html`<span title="what Triage itself took of it">Triage's own
        <b> ${ms(timings.own_ms)}</b></span>`}
    </figcaption></figure>`;
}

function Recorded({ of }) {
  return html`<${Facts} of=${[
    ["Id", html`<code>${of.id}</code> <${Copy} text=${of.id} />`],
    ["Time", html`${stamp(of.time)} (<${When} at=${of.time} since />)`],
    ["App", html`<${Where} app=${of.app} />`],
    ["Instance", of.instance && html`<${Where} app=${of.app} instance=${of.instance} />`],
    ["Client", of.client], ["Client's own id", of.client_request_id], ["Host", of.host],
    ["Trace", of.trace && html`<code>${of.trace}</code>`],
    ["Detail", of.detail],
    ["Bytes", `${bytes(of.bytes_in)} came in, ${bytes(of.sent)} went to an instance, ${bytes(of.bytes_out)} went back`],
    ["Could be sent again", of.replayable ? "yes" : "no"],
    ["Worker", of.worker],
  ]} />`;
}
