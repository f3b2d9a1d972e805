// One session: how far it is, then what came of it: verdict, findings with remedies, steps, report, downloads.
import { html, useState } from "../lib/core.js";
import { get, pathOf, post, remove, urlOf } from "../lib/api.js";
import { go, href, useRoute } from "../lib/route.js";
import { bytes, seconds } from "../lib/format.js";
import { Confirm } from "../lib/confirm.js";
import { useMay } from "../lib/who.js";
import { Loading, Page, Problem, State, Table, useData } from "../lib/parts.js";
import { Copy, Facts, When, Where, Words } from "./blocks.js";
import { Findings } from "./findings.js";
import { because, isActive, SessionState, Sure } from "./sessions.js";

const EVERY_MS = 1000;
const STEP_KINDS = {
  waiting: "quiet", running: "busy", done: "good", skipped: "quiet", failed: "bad", hung: "bad",
  "not permitted": "bad", "not there": "quiet", "no room": "bad",
};

export default function Session() {
  const id = useRoute().path[1];
  const [over, setOver] = useState(false);
  const { data: one, error, loading, again } = useData(async (signal) => {
    const found = await get(`sessions/${pathOf(id)}`, {}, signal);
    setOver(!isActive(found));
    return found;
  }, [id], over ? 0 : EVERY_MS);
  return html`<${Page} title=${one ? `${one.id}: ${one.app}` : id}
    heading=${one && html`${one.id} <span class="quiet">of <${Where} app=${one.app} instance=${one.instance} /></span>`}
    aside=${one && html`<${SessionState} session=${one} />`}>
    <${Problem} error=${error} retry=${again} />
    ${loading && !one ? html`<${Loading} what=${id} />` : null}
    ${one && isActive(one) && html`<${Progress} one=${one} then=${again} />`}
    ${one && !isActive(one) && html`<${Result} one=${one} again=${() => setOver(false)} />`}
    ${one && html`<${About} one=${one} />`}
    ${one && isActive(one) && html`<h2>Steps</h2><${Steps} of=${one.steps || []} />`}
    ${one && !isActive(one) && html`<details class="what"><summary>Steps: ${counted(one.steps || [])}</summary>
      <${Steps} of=${one.steps || []} /></details>`}
    ${one && !isActive(one) && html`<${Report} one=${one} /><${Files} one=${one} />`}
  </${Page}>`;
}

/** While it goes on. */
function Progress({ one, then }) {
  const [error, setError] = useState(null);
  const [asked, ask] = useState(false);
  const allowed = useMay("operator");
  async function cancel() {
    ask(true);
    try {
      await post(`sessions/${pathOf(one.id)}/cancel`);
      then();
    } catch (failed) {
      setError(failed);
      ask(false);
    }
  }
  const left = one.until ? Math.max(0, (new Date(one.until).getTime() - Date.now()) / 1000) : null;
  const running = (one.steps || []).filter((step) => step.state === "running").map((step) => step.title || step.name);
  return html`<section class="progress" aria-label="Progress">
    <p role="status"><b>${one.state}</b>${left ? `, gathering for ${seconds(Math.ceil(left))} more` : ""}${running.length
      ? `: ${[...new Set(running)].join(", ")}` : ""}</p>
    <progress max="1" value=${one.progress || 0} aria-label="How far it is"></progress>
    ${allowed && html`<p><button type="button" class="act danger" disabled=${asked} onClick=${cancel}>Cancel</button>
      <span class="hint"> What there is by then is still analyzed.</span></p>`}
    <${Problem} error=${error} />
  </section>`;
}

/** Once it is over. */
function Result({ one, again }) {
  const failed = ["failed", "lost"].includes(one.state);
  const kind = { critical: "down", warning: "degraded" }[one.severity] || (one.verdict && !failed ? "up" : "");
  const findings = useData((signal) => (one.verdict ? get(`sessions/${pathOf(one.id)}/findings`, {}, signal) : null),
    [one.id, one.ended]);
  return html`<section class="result">
    <div class="verdict ${kind}"><p class="verdict-words">${one.verdict
      ? html`<${Words} text=${one.verdict} />` : unjudged(one)}</p>
      <p><${Sure} of=${one} /></p></div>
    ${one.why && html`<p class="note">${one.state === "done" ? "In part" : one.state}: <${Words} text=${one.why} /></p>`}
    <${Problem} error=${findings.error} retry=${findings.again} />
    ${findings.data && html`<${Findings} analysis=${findings.data} />`}
    ${one.mode === "collect" || !one.verdict ? html`<${Again} one=${one} then=${again} />` : null}
  </section>`;
}

/** What is said where no verdict was drawn. */
function unjudged({ mode, state }) {
  return mode === "collect" && state === "done" ? "Gathered, and not analyzed." : `No verdict: it is ${state}.`;
}

function Again({ one, then }) {
  const [error, setError] = useState(null);
  const allowed = useMay("operator");
  if (!allowed) return null;
  const analyze = () => post(`sessions/${pathOf(one.id)}/analyze`).then(then, setError);
  return html`<p><button type="button" class="act" onClick=${analyze}>Analyze what was gathered</button></p>
    <${Problem} error=${error} />`;
}

function About({ one }) {
  return html`<${Facts} of=${[
    ["Begun", html`<${When} at=${one.began} since />`],
    ["Because of", because(one)],
    ["Incident", one.trigger?.incident && html`<a href=${href(["incidents", one.trigger.incident])}>
      ${one.trigger.incident}</a>`],
    ["Request", one.trigger?.request && html`<a href=${href(["requests", one.trigger.request])}>
      ${one.trigger.request}</a>`],
    ["Mode", { analyze: "collect and analyze", recycle: "collect, recycle and analyze" }[one.mode] || one.mode],
    ["Gathers for", one.seconds ? seconds(one.seconds) : "one quick look"],
    ["Took", seconds(one.took_s)],
    ["Looked into", (one.targets || []).join(", ")],
    ["Left out", one.left_out],
    ["Recycled by", one.operation && html`<a href=${href(["operations", one.operation])}>${one.operation}</a>`],
  ]} />`;
}

const STEPS = [
  { id: "title", title: "Step", cell: (step) => step.title || step.name },
  { id: "instance", title: "Instance", cell: (step) => step.instance },
  { id: "state", title: "State", cell: (step) => html`<${State} value=${step.state} kind=${STEP_KINDS[step.state]} />` },
  { id: "took", title: "Took", num: true, cell: (step) => (step.took_s ? seconds(step.took_s) : "") },
  { id: "why", title: "Why", wide: true, cell: (step) => html`<${Words} text=${step.why} />` },
];

function Steps({ of }) {
  return html`<${Table} columns=${STEPS} rows=${of} label="Steps" rowKey=${(step) => `${step.name}/${step.instance}`}
    empty="It has not begun yet." />`;
}

/** How many steps there were, by what came of them: "19 done, 2 not there". */
function counted(steps) {
  const states = new Map();
  for (const { state } of steps) states.set(state, (states.get(state) || 0) + 1);
  return [...states].map(([state, many]) => `${many} ${state}`).join(", ") || "none";
}

/** The report in a frame that may run nothing. Its address is that of the file, so that links beside it work. */
function Report({ one }) {
  const address = fileOf(one, "report.html");
  if (!has(one, "report.html")) return null;
  return html`<section><h2>Report</h2>
    <p class="links"><a href=${address} target="_blank" rel="noopener">Open it in a tab of its own</a></p>
    <iframe class="report" src=${address} title=${`Report of ${one.id}`} sandbox="allow-downloads"></iframe></section>`;
}

const has = (one, name) => (one.files || []).some((file) => file.name === name);

function fileOf(one, name) {
  return urlOf(`sessions/${pathOf(one.id)}/artifacts/${pathOf(...name.split("/"))}`);
}

const DUMP = /\/memory_dump\.core/; // holds every secret of its process: not for viewers

const FILES = [
  { id: "name", title: "File", wide: true, cell: (file) => (file.address
    ? html`<a href=${file.address} download>${file.name}</a>` : file.name) },
  { id: "size", title: "Size", num: true, cell: (file) => bytes(file.size), sort: (file) => file.size },
];

function Files({ one }) {
  const allowed = useMay("operator");
  const files = (one.files || []).map((file) => ({
    ...file, id: file.name, address: allowed || !DUMP.test(file.name) ? fileOf(one, file.name) : "",
  }));
  const scopes = files.filter((file) => file.name.endsWith(".speedscope.json"));
  const dumps = files.filter((file) => file.address && DUMP.test(file.name));
  const path = `sessions/${pathOf(one.id)}`;
  return html`<section><h2>Downloads</h2>
    <ul class="downloads">
      ${has(one, "report.html") && html`<li><a href=${urlOf(`${path}/report`)} download=${`${one.id}.html`}>Report</a>, one file that
        opens offline</li>`}
      ${has(one, "report.json") && html`<li><a href=${urlOf(`${path}/report`, { form: "json" })} download=${`${one.id}.json`}>Report as
        data</a>, JSON</li>`}
      <li><a href=${urlOf(`${path}/bundle`)} download=${`${one.id}.zip`}>Bundle</a>, all of it in a
        zip, without memory dumps</li>
      ${scopes.map((file) => html`<li key=${file.name}><a href=${file.address} download>CPU profile</a> of
        ${" "}${file.name.split("/")[0]}, for speedscope</li>`)}
      ${dumps.map((file) => html`<li key=${file.name}><a href=${file.address} download>Memory dump</a> of
        ${" "}${file.name.split("/")[0]}, ${bytes(file.size)}: it holds every secret of the process</li>`)}
    </ul>
    <p>On disk: <code>${one.folder}</code> <${Copy} text=${one.folder} /></p>
    <details><summary>All ${files.length} files, ${bytes(one.size)}</summary>
      <${Table} columns=${FILES} rows=${files} label="Files" /></details>
    <${Remove} one=${one} />
  </section>`;
}

function Remove({ one }) {
  const allowed = useMay("operator");
  const gone = () => remove(`sessions/${pathOf(one.id)}`).then(() => go("analyze"));
  return allowed && html`<p><${Confirm} label="Remove" what=${one.id} small=${false} words="There is no way back."
    sure=${`Remove ${one.id} for good`} run=${gone} /></p>`;
}
