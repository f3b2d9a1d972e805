// A terminal over a WebSocket, in an instance's place or the gateway's; and all that are open.
import { html, useEffect, useRef, useState } from "../lib/core.js";
import { get, pathOf, remove, urlOf } from "../lib/api.js";
import { Confirm } from "../lib/confirm.js";
import { seconds } from "../lib/format.js";
import { Problem, State, Table, useData } from "../lib/parts.js";
import { useRoute } from "../lib/route.js";
import { colour } from "../lib/chart.js";
import { open } from "../lib/terminal.js";
import { When, Where } from "./blocks.js";
import { placeOf, wordsOf } from "./place.js";

const EVERY_MS = 4000;
const SCROLLBACK = 5000; // lines
const INERT = { activate: () => {} }; // what a program prints leads nowhere
const MOST = 5; // terminals that Triage lets be open at once

/** `shown`: whether one looks at it; what is open stays open while one looks at files. */
export function Terminals({ shown }) {
  const place = placeOf(useRoute().query);
  const [turn, setTurn] = useState(null); // which terminal, and where it is
  const list = useData((signal) => get("consoles", {}, signal), [], shown ? EVERY_MS : 0);
  const begin = () => setTurn({ number: (turn?.number || 0) + 1, ...place });
  return html`${turn ? html`<${Terminal} key=${turn.number} place=${turn} shown=${shown} again=${begin}
      told=${list.again} />`
    : html`<p><button type="button" class="primary" onClick=${begin}>Open a terminal</button></p>`}
    <h2>Open now</h2>
    <${Problem} error=${list.error} retry=${list.again} />
    ${list.data && html`<${Table} columns=${columns(list.again)} rows=${list.data.items} label="Open terminals"
      empty="No terminal is open." />`}`;
}

const columns = (again) => [
  { id: "id", title: "Terminal", cell: (one) => one.id },
  { id: "where", title: "Where", cell: (one) => (one.app ? html`<${Where} app=${one.app} instance=${one.instance} />`
    : one.where || "the gateway") },
  { id: "by", title: "Whose", wide: true, cell: (one) => [one.by, one.way].filter(Boolean).join(", ") },
  { id: "began", title: "Opened", cell: (one) => html`<${When} at=${one.began} since />` },
  { id: "idle", title: "Idle", num: true, cell: (one) => seconds(one.idle_s) },
  { id: "pid", title: "pid", num: true, cell: (one) => one.pid },
  { id: "end", title: "", cell: (one) => html`<${Confirm} label="End" what=${one.id} words="With all that runs in it."
    sure="End it" run=${() => remove(`consoles/${pathOf(one.id)}`).then(again)} />` },
];

function Terminal({ place, shown, again, told }) {
  const box = useRef(null);
  const link = useRef(null);
  const [state, set] = useState({ word: "connecting", words: "" });
  useEffect(() => {
    const ended = connect(box.current, place, set, (made) => (link.current = made));
    return ended;
  }, []);
  useEffect(() => void (state.word !== "connecting" && told()), [state.word]);
  useEffect(() => {
    if (shown) link.current?.fit();
  }, [shown]);
  const over = state.word === "ended" || state.word === "not opened";
  return html`<p class="sum" role="status"><${State} value=${state.word} kind=${KINDS[state.word]} />
      <span>${wordsOf(place)}</span>
      <span>${state.words}</span>
      ${over ? html`<button type="button" class="small" onClick=${again}>Open another</button>`
      : html`<button type="button" class="small" onClick=${() => link.current?.close()}>Close</button>`}</p>
    <${Problem} error=${state.error} />
    <div class="terminal-box" ref=${box} hidden=${state.word === "not opened"}></div>
    <p class="hint">It ends with this page, and when nobody types for 30 min or what <code>admin.console_idle</code> says.
      ${" "}To leave it by keyboard: <kbd>Ctrl</kbd>+<kbd>Shift</kbd>+<kbd>Escape</kbd>.</p>`;
}

const KINDS = { connecting: "busy", open: "good", ended: "quiet", "not opened": "bad" };

/** Open one in `box`. `tell({word, words, error})`; `have({fit, close})` as soon as it is there. Answers its end. */
function connect(box, { app, instance, root, dir }, tell, have) {
  let left = false, socket = null, made = null, begun = false, exit = null;
  const frame = new ResizeObserver(() => box.offsetWidth && made?.fit());
  const end = () => {
    left = true;
    frame.disconnect();
    socket?.close();
    made?.end();
  };

  async function start() {
    try {
      made = await open(box, { theme: theme(), fontSize: 13, scrollback: SCROLLBACK, linkHandler: INERT });
    } catch (error) {
      return tell({ word: "not opened", error: { title: "The terminal could not be loaded", detail: error.message } });
    }
    if (left) return made.end();
    made.fit();
    const { terminal } = made;
    const url = new URL(urlOf("console", { app, instance, root, dir, cols: terminal.cols, rows: terminal.rows }), location.href);
    url.protocol = url.protocol.replace("http", "ws");
    socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => (typeof data === "string" ? heard(JSON.parse(data)) : terminal.write(new Uint8Array(data)));
    socket.onclose = over;
    terminal.onData((text) => send(new TextEncoder().encode(text)));
    terminal.onBinary((text) => send(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
    terminal.onResize(({ cols, rows }) => send(JSON.stringify({ resize: [cols, rows] })));
    terminal.attachCustomKeyEventHandler(leaves);
    frame.observe(box);
    have({ fit: () => made.fit(), close: () => socket.close() });
    terminal.focus();
  }

  const send = (data) => socket.readyState === WebSocket.OPEN && socket.send(data);

  function heard(message) {
    if (message.begun) {
      begun = true;
      tell({ word: "open", words: `${message.begun.id}: ${message.begun.shell} as ${message.begun.user}` });
    }
    if ("exit" in message) exit = message;
  }

  async function over({ reason }) {
    if (left) return;
    made.terminal.options.disableStdin = true;
    if (begun || exit) return tell({ word: "ended", words: exit?.words || reason || "The connection was lost; what ran in it was ended." });
    tell({ word: "not opened", error: await why({ app, instance }) });
  }

  start();
  return end;
}

/** Tab goes to the shell; this goes to the next thing on the page. */
function leaves(event) {
  if (event.type !== "keydown" || event.key !== "Escape" || !event.ctrlKey || !event.shiftKey) return true;
  event.target.closest(".terminal-box").parentElement.querySelector(".sum button").focus();
  event.preventDefault();
  return false;
}

/** A browser does not say why a WebSocket was refused; what may be asked without one does. */
async function why({ app, instance }) {
  try {
    const { items } = await get("consoles");
    if (items.length >= MOST) return { title: "No more terminals can be opened", detail: `${items.length} are open; end one of them.` };
    if (app) {
      const one = await get(pathOf("apps", app, ...(instance ? ["instances", instance] : [])));
      if (instance && !one.pid) return { title: `${instance} does not run`, detail: `It is ${one.lifecycle}.` };
    }
  } catch (error) {
    return error;
  }
  return { title: "The terminal could not be opened", detail: "The connection was refused or lost.", hint: "The events say more." };
}

/** Its own colours in light and in dark: programs expect sixteen that differ from the ground. */
function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return {
    background: dark ? "#101317" : "#fbfbfc", foreground: colour("--ink"), cursor: colour("--accent"),
    cursorAccent: colour("--ground"), selectionBackground: dark ? "#34506e" : "#bcd6f2", ...(dark ? DARK : LIGHT),
  };
}

const LIGHT = {
  black: "#16191d", red: "#b3261e", green: "#12703a", yellow: "#855600", blue: "#0b5cad", magenta: "#8a2fa0", cyan: "#0e6a80",
  white: "#57606b", brightBlack: "#57606b", brightRed: "#c2410c", brightGreen: "#15803d", brightYellow: "#92600a",
  brightBlue: "#1d6fb8", brightMagenta: "#a03cb8", brightCyan: "#0e7490", brightWhite: "#16191d",
};
const DARK = {
  black: "#4a535e", red: "#ff8f85", green: "#63cc8e", yellow: "#e2b34d", blue: "#75b5ff", magenta: "#d59bff", cyan: "#55c6dc",
  white: "#d5dae0", brightBlack: "#8b96a3", brightRed: "#ffaea7", brightGreen: "#8be0ad", brightYellow: "#f0cd80",
  brightBlue: "#a5d0ff", brightMagenta: "#e6c0ff", brightCyan: "#8be0ef", brightWhite: "#ffffff",
};
