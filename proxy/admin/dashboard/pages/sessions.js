// The list of sessions, and how their states and triggers read.
import { html } from "../lib/core.js";
import { get } from "../lib/api.js";
import { href } from "../lib/route.js";
import { bytes, seconds } from "../lib/format.js";
import { Loading, Problem, State, Table, useData } from "../lib/parts.js";
import { When, Where } from "./blocks.js";

const EVERY_MS = 3000;
const ACTIVE = ["waiting", "collecting", "recycling", "analyzing"];
const KINDS = {
  collecting: "busy", recycling: "busy", analyzing: "busy", waiting: "busy", done: "good", failed: "bad", lost: "bad",
};
const GRAVE = { critical: "bad", warning: "busy" };
const TRIGGERS = {
  hand: "by hand", rule: "a rule", incident: "an incident", crash: "a crash", request: "a request", cpu: "CPU",
  memory: "memory", agent: "an exception",
};

/** Whether it still goes on. */
export const isActive = (session) => ACTIVE.includes(session.state);

/** A session's state as its word. */
export function SessionState({ session: { state, why } }) {
  return html`<${State} value=${state} kind=${KINDS[state] || "quiet"} title=${why} />`;
}

/** Severity and certainty of its first finding. */
export function Sure({ of: { severity, certainty } }) {
  if (!severity && !certainty) return null;
  return html`<${State} value=${severity} kind=${GRAVE[severity] || "quiet"} /><span class="quiet">${certainty}</span>`;
}

/** Who or what began it, in a few words. */
export function because({ trigger }) {
  const { kind, rule, incident, request, reason } = trigger || {};
  const what = rule || incident || request || "";
  return [TRIGGERS[kind] || kind, what, reason].filter(Boolean).join(": ");
}

const COLUMNS = [
  { id: "id", title: "Session", cell: (one) => one.id },
  { id: "began", title: "Begun", cell: (one) => html`<${When} at=${one.began} />`, sort: (one) => one.began },
  { id: "of", title: "Of", cell: (one) => html`<${Where} app=${one.app} instance=${one.instance} />` },
  { id: "state", title: "State", cell: (one) => html`<${SessionState} session=${one} />` },
  { id: "trigger", title: "Because of", wide: true, cell: because },
  { id: "verdict", title: "Verdict", wide: true, cell: (one) => one.verdict || one.why || "" },
  { id: "sure", title: "Certainty", cell: (one) => html`<${Sure} of=${one} />` },
  { id: "took", title: "Took", num: true, cell: (one) => seconds(one.took_s), sort: (one) => one.took_s },
  { id: "size", title: "Size", num: true, cell: (one) => (one.size ? bytes(one.size) : ""), sort: (one) => one.size },
];

/** All sessions, newest first; those of one app where `app` names it. */
export function Sessions({ app = "" }) {
  const { data, error, loading, again } = useData(
    (signal) => get("sessions", { app, limit: 50 }, signal), [app], EVERY_MS);
  return html`<section><h2>Sessions</h2>
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="sessions" />` : null}
    ${data && html`<${Table} columns=${COLUMNS} rows=${data.items} label="Sessions"
      href=${(one) => href(["analyze", one.id])} empty="No session was made yet, or none is kept any more." />`}
  </section>`;
}
