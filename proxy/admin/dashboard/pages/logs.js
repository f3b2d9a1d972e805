// What the instances print and write to their log files, as it comes or out of the past. Tracebacks are one entry.
import { html, useEffect, useMemo, useRef, useState } from "../lib/core.js";
import { follow, get } from "../lib/api.js";
import { href, setQuery, useRoute } from "../lib/route.js";
import { stamp } from "../lib/format.js";
import { Filters, Loading, Page, Problem } from "../lib/parts.js";
import { Stream, Where } from "./blocks.js";

const MOST = 2000; // lines in the page
const PAGE = 500; // lines of one answer
const FLUSH_MS = 200;
const NEAR = 40; // pixels: so close to the end, the newest line is kept in view

const FIELDS = [
  { name: "grep", label: "Contains", wide: true },
  { name: "app", label: "App" },
  { name: "instance", label: "Instance", placeholder: "web-7" },
  { name: "stream", label: "Stream", type: "select",
    options: [["", "all"], ["out", "output"], ["err", "error output"], ["triage", "Triage's own words"]] },
  { name: "since", label: "From", placeholder: "now on, or 15m" },
  { name: "until", label: "Until", placeholder: "5m" },
];
const NAMES = FIELDS.map((field) => field.name);

export default function Logs() {
  const { query } = useRoute();
  const asked = Object.fromEntries(NAMES.map((name) => [name, query.get(name)]).filter(([, value]) => value));
  const past = Boolean(asked.since || asked.until);
  return html`<${Page} title="Logs">
    <${Filters} fields=${FIELDS} />
    ${past ? html`<${Past} key=${JSON.stringify(asked)} asked=${asked} />`
      : html`<${Live} key=${JSON.stringify(asked)} asked=${asked} />`}
  </${Page}>`;
}

// --- as it comes --------------------------------------------------------------------------------------

function Live({ asked }) {
  const [paused, pause] = useState(false);
  const log = useLines(asked, paused);
  return html`<p class="sum"><${Stream} state=${log.state} since=${log.since} paused=${paused} />
      <button type="button" class="small" onClick=${() => pause(!paused)}>${paused ? "Go on" : "Pause"}</button>
      ${paused && log.waiting ? html` <span>${log.waiting.toLocaleString("en")} new lines</span>` : null}
      ${log.gone ? html` <span class="quiet">the oldest ${log.gone.toLocaleString("en")} have left this page; From finds
        them</span>` : null}
      ${log.dropped.map((words, at) => html` <span class="lost" key=${at}>${words}</span>`)}</p>
    <${Problem} error=${log.error} />
    <${Lines} items=${log.items} follow=${!paused} empty=${log.state === "open"
      ? "No line yet. New ones appear here by themselves." : ""} />`;
}

/** Lines of a stream, at most MOST, oldest first; while paused what comes waits. */
function useLines(asked, paused) {
  const [state, set] = useState(
    { items: [], state: "", since: null, error: null, dropped: [], gone: 0, waiting: 0 });
  const coming = useRef({ lines: [], lost: 0, paused: false, timer: 0, flush: null });
  coming.current.paused = paused;

  useEffect(() => {
    const here = coming.current;
    let over = false, asking = null;
    here.flush = () => {
      here.timer = 0;
      if (here.paused) return void set((before) => ({ ...before, waiting: here.lines.length + here.lost }));
      const batch = here.lines, lost = here.lost;
      here.lines = [];
      here.lost = 0;
      set((before) => {
        const all = ordered([...before.items, ...batch]);
        const gone = before.gone + lost + Math.max(0, all.length - MOST);
        return { ...before, items: all.slice(-MOST), gone, waiting: 0 };
      });
    };
    const take = (lines) => {
      for (const line of lines) here.lines.push(line);
      const over = here.lines.length - MOST;
      if (over > 0) {
        here.lines.splice(0, over);
        here.lost += over;
      }
      here.timer ||= setTimeout(here.flush, FLUSH_MS);
    };
    async function before() { // what there was before the stream began
      asking?.abort();
      asking = new AbortController();
      try {
        take((await get("logs", { ...asked, limit: PAGE }, asking.signal)).items.reverse());
        set((now) => ({ ...now, error: null }));
      } catch (error) {
        if (!over && !asking.signal.aborted) set((now) => ({ ...now, error }));
      }
    }
    const end = follow("logs", asked, {
      line: (data) => take([data]),
      dropped: (data) => set((now) => ({ ...now, dropped: [...now.dropped, lostWords(data)].slice(-3) })),
      onState: (word, error) => {
        if (word === "open") before();
        set((now) => ({ ...now, state: word, error: word === "open" ? null : error || now.error,
          since: word === now.state ? now.since : new Date() }));
      },
    });
    return () => {
      over = true;
      clearTimeout(here.timer);
      here.timer = 0;
      asking?.abort();
      end();
    };
  }, []);
  useEffect(() => {
    if (!paused) coming.current.flush?.();
  }, [paused]);
  return state;
}

const lostWords = ({ words, dropped, instance }) =>
  words || `${dropped.toLocaleString("en")} lines${instance ? ` of ${instance}` : ""} were lost`;

/** By their number, each once. */
function ordered(lines) {
  const byId = new Map(lines.map((line) => [Number(line.id), line]));
  return [...byId.entries()].sort((one, other) => one[0] - other[0]).map(([, line]) => line);
}

// --- out of the past ----------------------------------------------------------------------------------

const live = () => setQuery({ since: null, until: null }, { step: true });

function Past({ asked }) {
  const [state, set] = useState({ items: [], next: null, error: null, loading: true });
  useEffect(() => {
    const stop = new AbortController();
    load(null, [], stop.signal);
    return () => stop.abort();
  }, []);

  async function load(cursor, there, signal) {
    set((before) => ({ ...before, loading: true }));
    try {
      const page = await get("logs", { ...asked, limit: PAGE, cursor }, signal);
      const all = ordered([...page.items, ...there]);
      set({ items: all.slice(0, MOST), next: all.length < MOST ? page.next : null, error: null, loading: false,
        full: all.length >= MOST });
    } catch (error) {
      if (!signal?.aborted) set((before) => ({ ...before, error, loading: false }));
    }
  }

  return html`<p class="sum"><span>${state.items.length.toLocaleString("en")} lines</span>
      <button type="button" class="small" onClick=${live}>Live again</button>
      ${state.full ? html` <span class="quiet">this page holds ${MOST.toLocaleString("en")}; narrow it with Until</span>`
        : null}</p>
    <${Problem} error=${state.error} retry=${() => load(null, [])} />
    ${state.next ? html`<p><button type="button" disabled=${state.loading}
      onClick=${() => load(state.next, state.items)}>Older</button></p>` : null}
    ${state.loading && !state.items.length ? html`<${Loading} what="lines" />` : null}
    <${Lines} items=${state.items} empty=${state.loading || state.error ? "" : "No line matches in that time."} />`;
}

// --- lines --------------------------------------------------------------------------------------------

function Lines({ items, follow: following, empty }) {
  const box = useRef(null);
  const atEnd = useRef(true);
  const entries = useMemo(() => folded(items), [items]);
  useEffect(() => {
    if (following && atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [entries, following]);
  const scrolled = ({ target }) => {
    atEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < NEAR;
  };
  if (!entries.length) return empty ? html`<p class="empty">${empty}</p>` : null;
  return html`<div class="log" ref=${box} onScroll=${scrolled} role="log" aria-label="Log lines" aria-live="off"
    tabindex="0">
    ${entries.map((entry) => html`<${Entry} key=${entry.first.id} entry=${entry} />`)}</div>`;
}

function Entry({ entry }) {
  const { first, exception } = entry;
  const lines = entry.lines.flatMap((one) => one.line.split("\n"));
  return html`<div class=${`line line-${first.stream.split(":")[0]}`}>
    <time title=${stamp(first.time)}>${short(first.time)}</time>
    <span class="who"><${Where} app=${first.app} instance=${first.instance} /></span>
    <span class="from">${first.stream}</span>
    ${lines.length > 1 ? html`<details><summary>${lines[0]} … <b>${lines.at(-1)}</b>
      <span class="quiet"> ${lines.length} lines</span></summary><pre>${lines.join("\n")}</pre>
      ${exception && html`<a href=${href(["exceptions", exception], { app: first.app })}>all of this kind</a>`}</details>`
      : html`<span class="text">${first.line}</span>`}</div>`;
}

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const short = (time) => `${clock.format(new Date(time))}.${time.slice(20, 23) || "000"}`;

const TOGETHER_MS = 1000; // lines of one entry are written at once
const INDENTED = /^(\s+\S|\t|Caused by: |\.\.\. \d+ more|goroutine \d+ \[)/;
const BEGINS = /Traceback \(most recent call last\):\s*$/;
const BETWEEN = /^\s*$|^The above exception was|^During handling of the above/;

/**
 * Lines that belong together are one entry: of one instance and stream, those of one exception as Triage found it, and,
 * as long as that is not known yet, indented lines after another, and a Python traceback to its last line.
 */
export function folded(items) {
  const entries = [];
  const open = new Map(); // by instance and stream: the entry that its next line may belong to
  for (const line of items) {
    const from = `${line.app}/${line.instance}/${line.stream}`;
    const entry = open.get(from);
    if (entry && belongs(line, entry)) {
      entry.lines.push(line);
      continue;
    }
    const begun = { first: line, lines: [line], exception: line.exception, traceback: BEGINS.test(line.line) };
    open.set(from, begun);
    entries.push(begun);
  }
  return entries;
}

function belongs(line, entry) {
  const { first, lines, exception } = entry;
  if (exception || line.exception) { // the same once more begins anew, but not one that came of another
    return line.exception === exception && (line.line !== first.line || BETWEEN.test(lines.at(-1).line));
  }
  if (new Date(line.time) - new Date(lines.at(-1).time) > TOGETHER_MS) return false;
  if (INDENTED.test(line.line)) return true;
  if (!entry.traceback) return false;
  entry.traceback = BEGINS.test(line.line) || BETWEEN.test(line.line); // its last line is not indented: "KeyError: 4"
  return true;
}
