// Acts: a button first asks the API what would happen, says it, and asks for a reason; then shows each step.
import { html, useEffect, useRef, useState } from "./core.js";
import { get, pathOf, post } from "./api.js";
import { Coded } from "./coded.js";
import { clock } from "./format.js";
import { Problem } from "./parts.js";
import { go, href } from "./route.js";
import { useMay } from "./who.js";

let show = null;

/**
 * A button that begins an act; not there for whose role is less than `needs`. `path`: below /api/v1; `body`: its fields;
 * `fields`: those that a person fills in, each `{name, label, type: "number" | "text" | "check" | "select", options,
 * value, hint}`; `danger`: it ends something; `then(answer)`. What it would do is asked of `path` with `preview`, or of
 * `foresee(body)`, which answers `{will: [lines], at_stake, problems: [lines]}`; with problems it is not begun.
 */
export function Act({ label, needs = "operator", ...act }) {
  const allowed = useMay(needs);
  if (!allowed) return null;
  const open = () => show?.({ body: {}, fields: [], ...act, label });
  const look = `act ${act.danger ? "danger" : ""}`;
  return html`<button type="button" class=${look} title=${act.title} onClick=${open}>${label}</button>`;
}

/** Where acts would be: said to whose role is less than `needs`. */
export function NotYours({ needs = "operator", what = "Acts" }) {
  const allowed = useMay(needs);
  return allowed ? null : html`<p class="quiet">${what} need the role ${needs}.</p>`;
}

/** Stands once in the shell: acts outlive the row that they were begun on. */
export function ActDialog() {
  const [act, set] = useState(null);
  useEffect(() => {
    show = set;
    return () => (show = null);
  }, []);
  return act && html`<${Dialog} key=${act.path} act=${act} close=${() => set(null)} />`;
}

function Dialog({ act, close }) {
  const box = useRef(null);
  const [given, setGiven] = useState(() => Object.fromEntries(act.fields.map(({ name, value }) => [name, value])));
  const [reason, setReason] = useState("");
  const [operation, setOperation] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const [hindered, hinder] = useState(false);
  const body = { ...act.body, ...filled(given) };
  useEffect(() => box.current.showModal(), []);

  async function begin(event) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    let begun = null;
    try {
      begun = await post(act.path, reason.trim() ? { ...body, reason: reason.trim() } : body);
      if (isSession(begun)) {
        box.current?.close();
        return void go(["analyze", begun.id]);
      }
      setOperation(begun);
      await toItsEnd(begun, setOperation, () => box.current?.open);
    } catch (failed) {
      setError(failed);
    } finally {
      setBusy(false);
    }
    act.then?.(begun);
  }

  return html`<dialog ref=${box} class="act-dialog" onClose=${close} aria-labelledby="act-title">
    <form onSubmit=${begin}>
      <h2 id="act-title">${act.title || act.label}</h2>
      ${operation ? html`<${Steps} operation=${operation} />` : html`
        ${act.fields.map((field) => html`<${Given} key=${field.name} field=${field} value=${given[field.name]}
          set=${(value) => setGiven((before) => ({ ...before, [field.name]: value }))} />`)}
        <${Foreseen} act=${act} body=${body} hinder=${hinder} />
        <label class="wide"><span>Reason, for the events</span><input type="text" maxlength="200" value=${reason}
          placeholder="by hand" onInput=${(event) => setReason(event.target.value)} /></label>`}
      <${Problem} error=${error} />
      <${Problems} lines=${error?.document?.problems} />
      <menu>
        ${!operation && html`<button class="primary ${act.danger ? "danger" : ""}" disabled=${busy || hindered}>
          ${act.label}</button>`}
        <button type="button" onClick=${() => box.current.close()}>${operation ? "Close" : "Cancel"}</button>
        ${operation?.state === "running" && html`<span class="hint">It goes on when this is closed.</span>`}
      </menu>
    </form>
  </dialog>`;
}

const isSession = (answer) => /^S-\d+$/.test(answer?.id || "");

function Given({ field, value, set }) {
  const { label, type = "text", hint, options = [] } = field;
  if (type === "check") {
    return html`<label class="check"><input type="checkbox" checked=${value}
      onChange=${(event) => set(event.target.checked)} /> ${label}</label>`;
  }
  if (type === "select") {
    return html`<label class="wide"><span>${label}</span><select value=${value}
      onChange=${(event) => set(event.target.value)}>${options.map(([one, words]) => html`
        <option value=${one} selected=${one === value}>${words}</option>`)}</select>
      ${hint && html`<small>${hint}</small>`}</label>`;
  }
  return html`<label class="wide"><span>${label}</span><input type=${type} value=${value} min="0"
    onInput=${(event) => set(type === "number" ? event.target.valueAsNumber : event.target.value)} />
    ${hint && html`<small>${hint}</small>`}</label>`;
}

/** Fields that were left empty are not sent. */
function filled(given) {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== "" && !Number.isNaN(value)));
}

function Foreseen({ act: { path, foresee }, body, hinder }) {
  const [foreseen, set] = useState(null);
  const text = JSON.stringify(body);
  useEffect(() => {
    let left = false;
    const timer = setTimeout(async () => {
      try {
        const found = await (foresee ? foresee(body) : post(path, { ...body, preview: true }));
        if (!left) set({ found });
        if (!left) hinder(Boolean(found.problems?.length));
      } catch (error) {
        if (!left) set({ error });
      }
    }, foreseen ? 250 : 0);
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, [path, text]);
  if (!foreseen) return html`<p class="loading" role="status">Asking what will happen …</p>`;
  if (foreseen.error) return html`<${Problem} error=${foreseen.error} />`;
  const { will = [], at_stake: atStake, problems } = foreseen.found;
  if (problems?.length) return html`<${Problems} lines=${problems} />`;
  const words = atStake ? "What will happen – requests or capacity are at stake" : "What will happen";
  return html`<div class="will ${atStake ? "at-stake" : ""}"><h3>${words}</h3>
    <ul>${will.map((line) => html`<li><${Coded} text=${line} /></li>`)}</ul></div>`;
}

/** What is wrong, a line each. */
function Problems({ lines }) {
  return lines?.length > 0 && html`<ul class="problem plain-list">
    ${lines.map((line) => html`<li key=${line}><${Coded} text=${line} /></li>`)}</ul>`;
}

/** An operation's steps so far, and what it came to. */
function Steps({ operation }) {
  const { id, state, why, steps = [], next_start: later } = operation;
  return html`<div class="steps" role="status">
    <p><span class="state ${{ running: "busy", done: "good" }[state] || "bad"}">${state}</span>
      ${why ? ` ${why}` : ""} ${id && html`<a href=${href(["operations", id])}>${id}</a>`}</p>
    <ol>${steps.map((step) => html`<li><time>${clock(step.time)}</time> ${step.text}</li>`)}</ol>
    ${later?.length > 0 && html`<p class="note">Takes effect at the next start: ${later.join("; ")}</p>`}
  </div>`;
}

/** Wait for each step of an operation until it ends, or nobody looks any more. */
async function toItsEnd(begun, told, looked) {
  let operation = begun;
  while (operation?.state === "running" && looked()) {
    const query = { wait: "30s", seen: operation.told };
    operation = await get(pathOf("operations", operation.id), query);
    told(operation);
  }
}
