// Run a command and read what it prints, as it prints it.
import { html, useEffect, useRef, useState } from "../lib/core.js";
import { run } from "../lib/api.js";
import { count, seconds } from "../lib/format.js";
import { Problem, State } from "../lib/parts.js";
import { useRoute } from "../lib/route.js";
import { placeOf, wordsOf } from "./place.js";

const MOST = 400_000; // characters that are kept on the page
const PIECE = 20_000; // characters of one element
const FLUSH_MS = 60;

export function Command() {
  const place = placeOf(useRoute().query);
  const [words, setWords] = useState("");
  const [reason, setReason] = useState("");
  const [limit, setLimit] = useState("60s");
  const [last, set] = useState(null);
  const stop = useRef(null);
  useEffect(() => () => stop.current?.abort(), []);

  async function begin(event) {
    event.preventDefault();
    stop.current = new AbortController();
    await perform(words.trim(), place, { limit, reason }, stop.current.signal, set);
    stop.current = null;
  }

  return html`<form class="command" onSubmit=${begin}>
      <label class="wide"><span>Command</span><input name="command" value=${words} required data-filter spellcheck=${false}
        autocomplete="off" autocapitalize="off" placeholder="ls -l" onInput=${(event) => setWords(event.target.value)} /></label>
      <div class="filters">
        <label><span>At most</span><input name="timeout" size="5" value=${limit}
          onInput=${(event) => setLimit(event.target.value)} /></label>
        <label class="wide"><span>Reason</span><input name="reason" maxlength="200" value=${reason} placeholder="by hand"
          onInput=${(event) => setReason(event.target.value)} /></label>
        ${last?.going ? html`<button key="cancel" type="button" class="act danger"
          onClick=${() => stop.current?.abort()}>Cancel</button>`
        : html`<button key="run" class="primary">Run</button>`}
      </div>
      <p class="hint">Split into words as a shell would, but no shell runs it: for pipes and patterns, ${" "}
        <code>sh -c "…"</code>.</p>
    </form>
    ${last && html`<${Outcome} of=${last} />`}`;
}

/** Run it; `told` of each change: `{words, text, lost, going, exit, error, began, took}`. */
async function perform(words, place, { limit, reason }, signal, told) {
  const began = Date.now();
  let state = { words, pieces: [], size: 0, lost: 0, going: true, exit: null, error: null, began, where: wordsOf(place) };
  let timer = 0;
  const tell = () => {
    timer = 0;
    told({ ...state, pieces: [...state.pieces], took: (Date.now() - began) / 1000 });
  };
  const soon = () => (timer ||= setTimeout(tell, FLUSH_MS));
  const add = (kind) => (text) => {
    const last = state.pieces.at(-1);
    if (last?.kind === kind && last.text.length < PIECE) {
      state.pieces[state.pieces.length - 1] = { kind, text: last.text + text };
    } else {
      state.pieces.push({ kind, text });
    }
    state.size += text.length;
    while (state.size > MOST && state.pieces.length > 1) {
      const gone = state.pieces.shift().text.length;
      state.size -= gone;
      state.lost += gone;
    }
    soon();
  };
  tell();
  const asked = Object.entries({ ...place, timeout: limit.trim(), reason: reason.trim() }).filter(([, value]) => value);
  const body = { command: words, ...Object.fromEntries(asked) };
  const handlers = {
    out: add("out"), err: add("err"),
    dropped: ({ bytes }) => {
      state.dropped = bytes;
      soon();
    },
    exit: (data) => (state.exit = data),
  };
  try {
    await run("command", body, handlers, signal);
  } catch (error) {
    if (!signal.aborted) state.error = error;
  }
  state.going = false;
  state.cancelled = signal.aborted;
  clearTimeout(timer);
  tell();
}

function Outcome({ of: one }) {
  const box = useRef(null);
  const end = useRef(true);
  useEffect(() => {
    if (end.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  });
  const looked = ({ target }) => (end.current = target.scrollHeight - target.scrollTop - target.clientHeight < 24);
  return html`<section aria-label="Output">
    <p class="sum" role="status"><code>${one.words}</code> <span>${one.where}</span> <${Ended} one=${one} />
      ${" "}<span>${seconds(one.took)}</span>
      ${one.lost > 0 && html`<span class="lost">${count(one.lost)} characters before are not shown any more</span>`}
      ${one.dropped > 0 && html`<span class="lost">${count(one.dropped)} bytes were dropped</span>`}</p>
    <${Problem} error=${one.error} />
    ${(one.pieces.length > 0 || one.going) && html`<pre class="output" tabindex="0" ref=${box} onScroll=${looked}
      >${one.pieces.map(({ kind, text }, at) => html`<span key=${at} class=${kind}>${text}</span>`)}</pre>`}
    ${!one.pieces.length && !one.going && !one.error && html`<p class="empty">It printed nothing.</p>`}
  </section>`;
}

function Ended({ one: { going, exit, cancelled, error } }) {
  if (going) return html`<${State} value="running" />`;
  if (exit) return html`<${State} value=${exit.words || `exit code ${exit.code}`} kind=${exit.code === 0 ? "good" : "bad"} />`;
  if (cancelled) return html`<${State} value="cancelled" kind="quiet" />`;
  return error ? null : html`<${State} value="ended without a word" kind="bad" />`;
}
