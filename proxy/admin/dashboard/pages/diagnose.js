// Diagnose now: what to look into, for how long, what is gathered and what that costs.
import { html, useState } from "../lib/core.js";
import { get, pathOf, post } from "../lib/api.js";
import { NotYours } from "../lib/act.js";
import { go, href, useRoute } from "../lib/route.js";
import { useMay } from "../lib/who.js";
import { seconds as lasting } from "../lib/format.js";
import { Problem, useData } from "../lib/parts.js";

const LENGTHS = [2, 5, 10, 30, 60, 120, 300, 600];
const USUAL = 30;
const MODES = [
  ["analyze", "Collect and analyze", "looks, then says what it found; changes nothing"],
  ["recycle", "Collect, recycle, analyze", "looks, replaces the instance by a fresh one, then says what it found"],
  ["collect", "Collect only", "keeps what was gathered, to be analyzed later"],
];

/** The form. `apps` as `status` has them. What the address names is filled in: app, instance, request. */
export function Diagnose({ apps }) {
  const { query } = useRoute();
  const [app, setApp] = useState(query.get("app") || "");
  const [instance, setInstance] = useState(query.get("instance") || "");
  const [length, setLength] = useState(USUAL);
  const [mode, setMode] = useState("analyze");
  const [chosen, setChosen] = useState(null); // null: those that are on by default
  const [reason, setReason] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const allowed = useMay("operator");
  const request = query.get("request") || "";
  const target = app || apps[0]?.id || "";
  const instances = useData(
    (signal) => (target ? get(`apps/${pathOf(target)}/instances`, {}, signal) : { items: [] }), [target]);
  const collectors = useData((signal) => get("collectors", {}, signal), []);
  const known = collectors.data?.items || [];
  const usual = known.filter((one) => one.default).map((one) => one.id);
  const wanted = chosen || usual;
  const active = error && `${error.detail} ${error.hint}`.match(/\bS-\d+\b/)?.[0];

  async function begin(event) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const begun = await post("sessions", {
        app: target, seconds: length, mode, ...(instance && { instance }), ...(chosen && { collectors: chosen }),
        ...(reason.trim() && { reason: reason.trim() }), ...(request && { request }),
      });
      go(["analyze", begun.id]);
    } catch (failed) {
      setError(failed);
      setBusy(false);
    }
  }
  const turn = (id, on) => setChosen(known.map((one) => one.id).filter((one) => (one === id ? on : wanted.includes(one))));

  if (!allowed) return html`<${NotYours} what="Sessions" />`;
  return html`<section class="diagnose" aria-labelledby="diagnose-title"><h2 id="diagnose-title">Diagnose now</h2>
    <form onSubmit=${begin}>
      <div class="fields">
        <label class="wide"><span>App</span><select name="app" value=${target} onChange=${(event) => {
          setApp(event.target.value);
          setInstance("");
        }}>${apps.map((one) => html`<option key=${one.id} value=${one.id} selected=${one.id === target}>
          ${one.id}${one.state === "up" ? "" : ` (${one.state})`}</option>`)}</select></label>
        <label class="wide"><span>Instance</span><select name="instance" value=${instance}
          onChange=${(event) => setInstance(event.target.value)}>
          <option value="">the most troubled ones</option>
          ${(instances.data?.items || []).map((one) => html`<option key=${one.id} value=${one.id}
            selected=${one.id === instance}>${one.id}</option>`)}</select></label>
        <label class="wide"><span>For</span><select name="seconds" value=${String(length)}
          onChange=${(event) => setLength(Number(event.target.value))}>
          ${LENGTHS.map((one) => html`<option key=${one} value=${one} selected=${one === length}>
            ${lasting(one)}</option>`)}</select></label>
        <button class="primary" disabled=${busy || !target}>Diagnose now</button>
      </div>
      ${request && html`<p class="note">About request <code>${request}</code>.</p>`}
      <${Problem} error=${error} />
      ${active && html`<p><a href=${href(["analyze", active])}>Look at ${active}</a></p>`}
      <details class="what"><summary>What it does: ${MODES.find(([id]) => id === mode)[1].toLowerCase()},
        ${" "}${wanted.length} of ${known.length} collectors</summary>
        <fieldset><legend>Then</legend>${MODES.map(([id, label, words]) => html`<label key=${id} class="check">
          <input type="radio" name="mode" value=${id} checked=${id === mode} onChange=${() => setMode(id)} />
          <span class="said">${label} <small>${words}</small></span></label>`)}</fieldset>
        <fieldset><legend>Gathers</legend>
          <${Problem} error=${collectors.error} retry=${collectors.again} />
          ${known.map((one) => html`<label key=${one.id} class="check">
            <input type="checkbox" name=${one.id} checked=${wanted.includes(one.id)}
              onChange=${(event) => turn(one.id, event.target.checked)} />
            <span class="said">${one.title} <small>${said(one)}</small></span></label>`)}</fieldset>
        <label class="wide"><span>Reason, for the events</span><input type="text" name="reason" maxlength="200"
          placeholder="by hand" value=${reason} onInput=${(event) => setReason(event.target.value)} /></label>
      </details>
    </form></section>`;
}

/** What a collector costs and needs, in one line. */
function said({ cost, needs }) {
  return [cost && `Costs: ${cost}.`, needs && `Needs: ${needs}.`].filter(Boolean).join(" ");
}
