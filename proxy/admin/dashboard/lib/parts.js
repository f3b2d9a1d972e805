// Parts that all pages are made of. The state's word is always written; colour and shape only repeat it.
import { html, useCallback, useEffect, useMemo, useRef, useState } from "./core.js";
import { Coded } from "./coded.js";
import { clock, stamp } from "./format.js";
import { href, setQuery, useRoute } from "./route.js";

export { Act } from "./act.js";
export { Coded };
export { Table } from "./table.js";

const KINDS = {
  good: ["up", "ready", "admitting", "done", "ok", "alive", "closed", "enabled", "sent", "certain"],
  busy: ["starting", "warming", "draining", "stopping", "trial", "running", "backoff", "met", "waiting", "silent",
    "degraded", "held", "suppressed", "acting", "retrying"],
  bad: ["down", "failed", "ejected", "firing", "failing", "ended", "open"],
};
const KIND_OF = new Map(Object.entries(KINDS).flatMap(([kind, words]) => words.map((word) => [word, kind])));

/** A state's word with its colour and shape: good, busy, bad or quiet; `kind` where the word alone does not say it. */
export function State({ value, kind, title }) {
  return html`<span class="state ${kind || KIND_OF.get(value) || "quiet"}" title=${title}>${value || "–"}</span>`;
}

/** Lifecycle and admission of an instance; why, where it is not simply ready. */
export function InstanceState({ instance: { lifecycle, admission, why } }) {
  const well = lifecycle === "ready" && admission === "admitting";
  return html`<span title=${why}><${State} value=${lifecycle} />${lifecycle === "ready" && admission
    && html` <${State} value=${admission} />`}</span>${!well && why && html`<small>${why}</small>`}`;
}

/** What a person set, by its key, as the API has it. */
export function ByHand({ set }) {
  return Object.entries(set || {}).map(([key, { value, time, until, why }]) => html`<p key=${key}>
    By hand: ${key} ${String(value ?? "")}, since <${Time} at=${time} />
    ${until && html` until <${Time} at=${until} />`}${why ? `: ${why}` : ""}</p>`);
}

/** An act that is under way. */
export function UnderWay({ operation: { id, act, target, last } }) {
  return html`<p>Under way: <a href=${href(["operations", id])}>${act} ${target}</a> ${last}</p>`;
}

/** A time of day, with the whole time in its title. */
export function Time({ at }) {
  return html`<time title=${stamp(at)}>${clock(at)}</time>`;
}

/** The last values as a line; null is a gap. `also` is drawn over it in the colour of faults. */
export function Spark({ values, also, max, label, width = 120, height = 18 }) {
  const seen = values.filter((value) => value !== null);
  const over = also?.map((value, at) => (value || also[at - 1] || also[at + 1] ? value : null)); // no line along zero
  const top = Math.max(max || 0, ...seen, 1e-9);
  return html`<svg class="spark" width=${width} height=${height} viewBox="0 0 ${width} ${height}" role="img"
    aria-label=${label} preserveAspectRatio="none">
    <path class="spark-line" d=${line(values, top, width, height)} />
    ${over && html`<path class="spark-also" d=${line(over, top, width, height)} />`}
  </svg>`;
}

function line(values, top, width, height) {
  const step = width / Math.max(1, values.length - 1);
  let path = "", gap = true;
  values.forEach((value, at) => {
    if (value === null || value === undefined) return void (gap = true);
    const y = height - 1 - (Math.min(value, top) / top) * (height - 2);
    path += `${gap ? "M" : "L"}${(at * step).toFixed(1)} ${y.toFixed(1)}`;
    gap = false;
  });
  return path;
}

/** A bar of a value against its limit, with its words beside it. */
export function Bar({ value, limit, words, title }) {
  if (!limit || typeof value !== "number") return html`<span title=${title}>${words}</span>`;
  const share = Math.min(1, value / limit);
  return html`<span class="bar ${share > 0.9 ? "full" : ""}" title=${title}>
    <span class="bar-in" style=${{ width: `${share * 100}%` }}></span><span class="bar-words">${words}</span>
  </span>`;
}

/** While something is on its way. */
export function Loading({ what = "" }) {
  return html`<p class="loading" role="status">Loading${what ? ` ${what}` : ""} …</p>`;
}

/** Where there is nothing to show: say why, and what would be here. */
export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

/** What failed, and what to do. */
export function Problem({ error, retry }) {
  if (!error) return null;
  return html`<div class="problem" role="alert">
    <strong>${error.title || error.message || "It failed"}</strong>
    ${error.detail && html` <span><${Coded} text=${error.detail} /></span>`}
    ${error.hint && html` <span class="hint"><${Coded} text=${error.hint} /></span>`}
    ${retry && html` <button type="button" class="small" onClick=${retry}>Try again</button>`}
  </div>`;
}

/**
 * Data of a page: `fn(signal)` is called when `deps` change, and each `everyMs` while the page is visible. What was
 * there stays while it loads, and when a later call for the same fails. Answers `{data, error, loading, again}`.
 */
export function useData(fn, deps, everyMs = 0) {
  const [state, set] = useState({ data: null, error: null, loading: true });
  const newest = useRef(null);
  newest.current = fn;
  const question = useMemo(() => ({}), deps); // another object for each
  const answered = useRef(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let timer = 0, controller = null;
    async function load() {
      controller = new AbortController();
      const { signal } = controller;
      try {
        const data = await newest.current(signal);
        if (signal.aborted) return;
        answered.current = question;
        set({ data, error: null, loading: false });
      } catch (error) {
        const same = answered.current === question;
        if (!signal.aborted) set((before) => ({ data: same ? before.data : null, error, loading: false }));
      }
      if (everyMs && !signal.aborted) timer = setTimeout(next, everyMs);
    }
    function next() {
      if (document.hidden) timer = setTimeout(next, everyMs);
      else load();
    }
    set((before) => ({ ...before, loading: true }));
    load();
    return () => {
      clearTimeout(timer);
      controller?.abort();
    };
  }, [question, everyMs, turn]);
  return { ...state, again: useCallback(() => setTurn((before) => before + 1), []) };
}

/**
 * Fields bound to the address. Each: `{name, label, type: "text" | "select" | "check", options: [value or [value,
 * words]], placeholder, wide}`. The first text field is where `/` goes.
 */
export function Filters({ fields, children }) {
  return html`<form class="filters" onSubmit=${(event) => event.preventDefault()} role="search">
    ${fields.map((field) => html`<${Field} key=${field.name} field=${field} />`)}${children}
  </form>`;
}

function Field({ field }) {
  const { query } = useRoute();
  const { name, label, type = "text", options = [], placeholder, wide } = field;
  const there = query.get(name) || "";
  const [typed, setTyped] = useState(null);
  const timer = useRef(0);
  const change = (value) => setQuery({ [name]: value, cursor: null });
  const typing = (event) => {
    const { value } = event.target;
    setTyped(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      change(value.trim());
      setTyped(null);
    }, 300);
  };
  if (type === "check") {
    return html`<label class="check"><input type="checkbox" checked=${there === "true"}
      onChange=${(event) => change(event.target.checked ? "true" : "")} /> ${label}</label>`;
  }
  if (type === "select") {
    const all = options.map((one) => (Array.isArray(one) ? one : [one, one]));
    if (there && !all.some(([value]) => value === there)) all.push([there, there]);
    return html`<label><span>${label}</span><select value=${there} onChange=${(event) => change(event.target.value)}>
      ${all.map(([value, words]) => html`<option value=${value} selected=${value === there}>${words}</option>`)}
    </select></label>`;
  }
  return html`<label class=${wide ? "wide" : ""}><span>${label}</span><input type="search" value=${typed ?? there}
    placeholder=${placeholder} data-filter onInput=${typing} spellcheck=${false} autocomplete="off" /></label>`;
}

/** One of some: `options` are values or `[value, words]`; `set(value)`. */
export function Choice({ label, name, value, options, set }) {
  const pairs = options.map((one) => (Array.isArray(one) ? one : [one, one]));
  return html`<label><span>${label}</span><select name=${name} value=${value} onChange=${(event) => set(event.target.value)}>
    ${pairs.map(([one, words]) => html`<option key=${one} value=${one} selected=${one === value}>${words}</option>`)}
  </select></label>`;
}

/** A page: its title in the tab and as its heading; `aside` stands beside the heading. */
export function Page({ title, heading, aside, children }) {
  useEffect(() => {
    document.title = `${title} · Triage`;
  }, [title]);
  return html`<article class="page">
    <header class="page-head"><h1 tabindex="-1">${heading || title}</h1>${aside && html`<div>${aside}</div>`}</header>
    ${children}
  </article>`;
}
