// Findings of a session, each with what it rests on and what can be done.
import { html, useRef } from "../lib/core.js";
import { Act, State } from "../lib/parts.js";
import { count } from "../lib/format.js";
import { Copy, When, Words } from "./blocks.js";

const GRAVE = { critical: "bad", warning: "busy", info: "quiet" };
const SURE = { certain: "good", "very likely": "good", likely: "busy", "not known": "quiet" };
const OPEN = 3;
const TAGS = {
  mitigation: "Makes it better at once", investigation: "Tells more", prevention: "So that it does not come back",
};

/** All of them, in order; those for information are folded. */
export function Findings({ analysis }) {
  const found = analysis.findings || [];
  const grave = found.filter((one) => one.severity !== "info");
  const info = found.filter((one) => one.severity === "info");
  const states = (name) => (analysis.checks || []).filter((check) => check.state === name).length;
  const open = states("inconclusive") + states("failed");
  return html`<h2>Findings</h2>
    ${grave.length ? null : html`<p class="empty">None above info.</p>`}
    ${grave.map((one, at) => html`<${Finding} key=${at} one=${one} open=${at < OPEN} />`)}
    ${info.length ? html`<details class="finding"><summary>${info.length} for information</summary>
      ${info.map((one, at) => html`<${Finding} key=${at} one=${one} />`)}</details>` : null}
    <p class="quiet">${count(states("passed"))} of ${count((analysis.checks || []).length)} checks
      passed${open ? `; ${count(open)} could give no answer: the report says why` : ""}.</p>`;
}

function Finding({ one, open = false }) {
  return html`<details class="finding" open=${open}>
    <summary><${State} value=${one.severity} kind=${GRAVE[one.severity]} />
      <${State} value=${one.certainty} kind=${SURE[one.certainty]} /> <b>${one.title}</b></summary>
    <p><${Words} text=${one.cause} /></p>
    ${one.care && html`<p>${one.care}</p>`}
    ${one.since ? html`<p class="quiet">Since <${When} at=${one.since} />${one.until
      ? html`, until <${When} at=${one.until} />` : ", and it goes on"}.</p>` : null}
    ${one.unknown && html`<p><b>Not known.</b> <${Words} text=${one.unknown} /></p>`}
    <${Remedies} of=${one.remedies || []} />
    <${Proofs} title="What was seen" of=${one.evidence} />
    <${Proofs} title="What speaks against it" of=${one.against} />
    <${Rivals} of=${one.rivals} />
  </details>`;
}

function Remedies({ of }) {
  const groups = Object.entries(TAGS).map(([tag, title]) => [title, of.filter((one) => one.tag === tag && !one.dont)]);
  groups.push(["What should not be done", of.filter((one) => one.dont)]);
  return groups.filter(([, found]) => found.length).map(([title, found]) => html`<h3 key=${title}>${title}</h3>
    <ul class="remedies">${found.map((one, at) => html`<li key=${at}><${Remedy} one=${one} /></li>`)}</ul>`);
}

function Remedy({ one }) {
  const code = useRef(null);
  const { text, command, act, fields, expect, dont, tag } = one;
  const name = act ? act.split("/").pop() : "";
  return html`<${Words} text=${text} />
    ${act && tag === "mitigation" && !dont ? html` <${Act} label=${name[0].toUpperCase() + name.slice(1)} title=${text}
      path=${act} body=${fields || {}} />` : null}
    ${command && html`<div><code ref=${code}>${command}</code>${dont ? null
      : html` <${Copy} text=${command} from=${code} />`}</div>`}
    ${expect && html`<small class="remark">Expected: <${Words} text=${expect} /></small>`}`;
}

function Proofs({ title, of }) {
  if (!of?.length) return null;
  return html`<h3>${title}</h3><ul>${of.map((one, at) => html`<li key=${at}><${Words} text=${one.text} />
    ${one.source && html` <span class="quiet">(${one.source})</span>`}</li>`)}</ul>`;
}

function Rivals({ of }) {
  if (!of?.length) return null;
  return html`<h3>Other causes that would look alike</h3><ul>${of.map((one, at) => html`<li key=${at}><b>${one.cause}</b>
    <ul>${(one.speaks_for || []).map((text) => html`<li>for it: ${text}</li>`)}
      ${(one.against || []).map((text) => html`<li>against it: ${text}</li>`)}</ul></li>`)}</ul>`;
}
