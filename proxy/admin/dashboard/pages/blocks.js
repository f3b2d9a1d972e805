// What several pages show: times, an explanation in its seven blocks, a timeline, commands to copy, pairs of values.
import { html, useState, useRef } from "../lib/core.js";
import { get } from "../lib/api.js";
import { href } from "../lib/route.js";
import { ago, clock, stamp, visible } from "../lib/format.js";
import { Loading, Problem, Table, useData } from "../lib/parts.js";

const BLOCKS = [
  ["why", "Why"], ["cause", "Cause"], ["lost", "Lost"], ["now", "Now"], ["done", "Done"], ["do", "Do"],
  ["evidence", "Evidence"],
];
const COMMAND = /^(triage|curl|grep|journalctl|systemctl|docker|kubectl|ss|dmesg|apps\.|gateway\.)\b/;

/** A time of day with the whole local time in its title. */
export function When({ at, since = false }) {
  if (!at) return html`<span class="quiet">–</span>`;
  return html`<time datetime=${new Date(typeof at === "number" ? at * 1000 : at).toISOString()} title=${stamp(at)}>
    ${clock(at)}${since ? html` <span class="quiet">${ago(at)}</span>` : null}</time>`;
}

/** A link to an app or one of its instances. */
export function Where({ app, instance }) {
  if (!app) return html`<span class="quiet">–</span>`;
  const path = instance && instance !== app ? ["apps", app, instance] : ["apps", app];
  return html`<a href=${href(path)}>${instance || app}</a>`;
}

/** Takes text to the clipboard; where the browser forbids that it selects it. */
export function Copy({ text, from, label }) {
  const [said, say] = useState("");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      say("copied");
    } catch {
      const range = document.createRange();
      if (from?.current) range.selectNodeContents(from.current);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      say("selected: press Ctrl+C");
    }
    setTimeout(() => say(""), 4000);
  }
  return html`<button type="button" class="copy" onClick=${copy} aria-label=${label || `Copy: ${text}`}>Copy</button>
    <span class="quiet" role="status">${said}</span>`;
}

/** One line of DO: when, a command or words, and what it changes. */
function Do({ line }) {
  const code = useRef(null);
  const [, when = "", rest = line] = line.match(/^(\S+)\s{2,}(.*)$/s) || [];
  const [, text = rest, remark = ""] = rest.match(/^(.*?)\s{3,}(.*)$/s) || [];
  if (!COMMAND.test(text)) return html`<li>${when && html`<b>${when}</b> `}<${Words} text=${text} /> ${remark}</li>`;
  return html`<li>${when && html`<b>${when}</b> `}<code ref=${code}>${text}</code> <${Copy} text=${text} from=${code} />
    ${remark && html`<span class="remark">${remark}</span>`}</li>`;
}

const PAGES_OF = { I: "incidents", o: "operations", S: "analyze" };
const MARKED = /\b(INC-\d+|op-\d+|S-\d+)\b|`([^`]+)`|\b(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)/;

/** Words of the API with what stands in them: ids as links, names of keys as code, times as they are here. */
export function Words({ text }) {
  const parts = String(text ?? "").split(MARKED); // words, id, code, time, words, …
  return parts.map((part, at) => {
    if (!part || at % 4 === 0) return part;
    if (at % 4 === 1) return html`<a href=${href([PAGES_OF[part[0]], part])}>${part}</a>`;
    return at % 4 === 2 ? html`<code>${part}</code>` : html`<${When} at=${part} />`;
  });
}

/** Likewise for text of fixed width: only times change. */
const local = (text) => text.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, clock);

/** The seven blocks of an answer of `triage why`. */
export function Why({ why, title = true }) {
  const lines = useRef(null);
  return html`<section class="why" ref=${lines}>
    ${title && html`<p class="why-title">${local(why.title)}</p>`}
    <dl>${BLOCKS.filter(([name]) => why[name]?.length).map(([name, label]) => html`
      <div class=${`block block-${name}`} key=${name}><dt>${label}
        ${name === "cause" && why.certainty ? html`<span class="quiet"> ${why.certainty}</span>` : null}</dt>
      <dd>${name === "do"
        ? html`<ul>${why.do.map((line, at) => html`<${Do} key=${at} line=${line} />`)}</ul>`
        : name === "evidence"
          ? html`<pre>${local(why.evidence.join("\n"))}</pre>`
          : why[name].map((line, at) => html`<p key=${at}><${Words} text=${line} /></p>`)}</dd></div>`)}
    </dl>
  </section>`;
}

/** Likewise, asked for at `path`, and again every `every` milliseconds. */
export function AskedWhy({ path, every, title = true }) {
  const { data, error, loading, again } = useData(() => get(path), [path], every);
  if (data) return html`<${Why} why=${data} title=${title} />`;
  if (error) return html`<${Problem} error=${error} retry=${again} />`;
  return loading ? html`<${Loading} />` : null;
}

/** Steps in order of time: `{time, text}`, and `kind` where there is one. */
export function Timeline({ steps }) {
  return html`<ol class="timeline">${(steps || []).map((step, at) => html`
    <li key=${at}><${When} at=${step.time || step.at} /> ${step.kind ? html`<b>${step.kind}</b> ` : null}
      <span><${Words} text=${step.text || step.words} /></span></li>`)}</ol>`;
}

/** Pairs of name and value; a pair without a value is left out. */
export function Facts({ of }) {
  const found = of.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return html`<dl class="facts">${found.map(([name, value]) => html`
    <div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** A text with what it says about a stream: connected, or since when there is no news. */
export function Stream({ state, since, paused }) {
  if (paused) return html`<span class="stream" role="status">paused</span>`;
  if (state === "open") return html`<span class="stream" role="status">live</span>`;
  return html`<span class="stream stale" role="status">${state === "waiting" && since
    ? `no news since ${clock(since)}; trying again` : "connecting"}</span>`;
}

/** Faults by name as one line: "instance-exited 5, connect-refused 1". */
export function counts(of) {
  const sorted = Object.entries(of || {}).sort((one, other) => other[1] - one[1]);
  return sorted.map(([name, n]) => `${name} ${n.toLocaleString("en")}`).join(", ");
}

/** A table of names and values. Whatever stands in it is text. */
export function Pairs({ of, label, empty }) {
  const rows = Object.entries(of || {}).map(([id, value]) => ({ id, value }));
  return html`<div class="pairs"><${Table} columns=${PAIRS} rows=${rows} label=${label} empty=${empty} /></div>`;
}

const PAIRS = [
  { id: "name", title: "Name", cell: (row) => html`<code>${visible(row.id)}</code>`, sort: (row) => row.id },
  { id: "value", title: "Value", wide: true, cell: (row) => html`<code>${said(row.value)}</code>` },
];

/** Any value of the API in a line. */
function said(value) {
  if (value === null || value === undefined || value === "") return "–";
  return visible(typeof value === "object" ? JSON.stringify(value) : value);
}
