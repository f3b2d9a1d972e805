// One incident: its cause, span and share, what is and was wrong, what was done, who was told, its last 15 minutes.
import { html } from "../lib/core.js";
import { get, pathOf } from "../lib/api.js";
import { href, useRoute } from "../lib/route.js";
import { clock, seconds } from "../lib/format.js";
import { Loading, Page, Problem, State, useData } from "../lib/parts.js";
import { AskedWhy, counts, Facts, Timeline, When, Where, Words } from "./blocks.js";
import { Frozen } from "./frozen.js";
import { hit, subject } from "./incidents.js";

const EVERY_MS = 3000;

export default function Incident() {
  const id = useRoute().path[1];
  const { data: one, error, loading, again } = useData(
    (signal) => get(`incidents/${pathOf(id)}`, {}, signal), [id], EVERY_MS);
  const open = one?.state === "open";
  return html`<${Page} title=${one ? `${one.id}: ${subject(one)} ${one.severity}` : id}
    aside=${one && html`<${State} value=${one.state} kind=${open ? "bad" : "good"} />`}>
    <${Problem} error=${error} retry=${again} />
    ${loading && !one ? html`<${Loading} what=${id} />` : null}
    ${one && html`
      <p class="lead"><${Words} text=${one.cause} /> <span class="quiet">${one.certainty}</span></p>
      <p class="lead">${open ? `It goes on since ${clock(one.began)}, ${seconds(one.lasted_s)}.`
        : `It is over: from ${clock(one.began)} to ${clock(one.ended)}, ${seconds(one.lasted_s)}.`}
        ${` Requests hit: ${hit(one)}.`}</p>
      <${About} one=${one} />
      <h2>Why</h2>
      <${AskedWhy} path=${`incidents/${pathOf(one.id)}/why`} every=${open ? 10_000 : 0} title=${false} />
      ${one.app ? html`<p class="links"><a href=${href("analyze", { app: one.app })}>Diagnose ${one.app} now</a></p>` : null}
      <h2>What happened and what was done</h2>
      ${one.steps_dropped ? html`<p class="quiet">${one.steps_dropped} steps between the first and these are not kept.</p>` : null}
      <${Timeline} steps=${one.steps} />
      <h2>Who was told</h2>
      <${Told} one=${one} />
      ${one.frozen ? html`<h2>The last 15 minutes before it, second by second</h2>
        <${Frozen} id=${one.frozen} began=${one.began} />` : null}`}
  </${Page}>`;
}

function About({ one }) {
  const faults = Object.entries(one.faults || {});
  const fault = faults.length === 1 ? faults[0][0] : "any";
  const span = { app: one.app, since: one.began };
  return html`<${Facts} of=${[
    ["Of", one.scope === "app" ? html`<${Where} app=${one.app} />` : subject(one)],
    ["Severity", one.severity],
    ["Began", html`<${When} at=${one.began} since />`],
    ["Noticed", html`<${When} at=${one.opened} />`],
    ["Ended", one.ended && html`<${When} at=${one.ended} since />`],
    ["Faults", faults.length ? html`<a href=${href("requests", { ...span, fault })}>${counts(one.faults)}</a>` : "none"],
    ["Instances", one.instances?.length ? html`${one.instances.map((name, at) => html`${at ? ", " : ""}<${Where}
      key=${name} app=${one.app} instance=${name} />`)}` : null],
    [one.state === "open" ? "Signals now" : "Signals", signals(one.signals)],
    ["Alert rules", one.rules?.length ? one.rules.join(", ") : null],
    ["Muted", one.muted ? "nobody is told" : null],
  ]} />`;
}

function signals(found) {
  const list = Object.entries(found || {});
  const item = ([name, says]) => html`<li key=${name}><b>${name}</b> ${says}</li>`;
  return list.length ? html`<ul class="signals">${list.map(item)}</ul>` : null;
}

function Told({ one }) {
  const messages = one.messages || [];
  if (one.messages_problem) return html`<p class="lost">What was sent can't be read now: ${one.messages_problem}</p>`;
  if (!messages.length) {
    return html`<p class="empty">${one.told?.length ? `Told: ${one.told.join(", ")}.`
      : "Nobody: no alert rule names somebody to tell about it."}</p>`;
  }
  return html`<ul class="messages">${messages.map((message) => html`<li key=${message.id}>
    <${When} at=${message.time} /> <b>${message.notifier}</b> <${State} value=${message.state} /> ${message.kind}: ${message.title}
    ${message.tries > 1 ? ` (${message.tries} attempts)` : ""}
    ${message.error && html` <span class="lost">${message.error}</span>`}</li>`)}</ul>`;
}
