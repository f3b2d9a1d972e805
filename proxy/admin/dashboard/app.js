// The shell: what is on each page, which page is shown, and who is logged in.
import { html, render, useEffect, useErrorBoundary, useRef, useState } from "./lib/core.js";
import { login, logout, onUnauthorized } from "./lib/api.js";
import { ActDialog } from "./lib/act.js";
import { clock, visible } from "./lib/format.js";
import { useLive } from "./lib/live.js";
import { Loading, Page, Problem } from "./lib/parts.js";
import { go, href, useRoute } from "./lib/route.js";
import { may, nobody, useWho } from "./lib/who.js";

const NAVIGATION = [
  ["Observe", [["", "Overview"], ["metrics", "Metrics"], ["incidents", "Incidents"], ["requests", "Requests"],
    ["logs", "Logs"], ["exceptions", "Exceptions"], ["events", "Events"]]],
  ["Analyze", [["analyze", "Diagnose"], ["why", "Why"]]],
  ["Mitigate", [["mitigate", "Rules and acts"]]],
  ["Console", [["console", "Files, terminal", "admin"]]],
  ["Gateway", [["gateway", "Environment"], ["access", "Access"]]],
];

/** First segment of the address to the modules of its pages: by how many segments there are. */
const PAGES = {
  "": ["overview"],
  apps: ["overview", "app", "instance"],
  metrics: ["metrics"],
  incidents: ["incidents", "incident"],
  requests: ["requests", "request"],
  logs: ["logs"],
  exceptions: ["exceptions", "exception"],
  events: ["events"],
  analyze: ["analyze", "session"],
  why: ["why", "why"],
  mitigate: ["mitigate"],
  operations: ["mitigate", "operation"],
  console: ["console"],
  gateway: ["gateway"],
  access: ["access"],
};

const known = new Map();

function pageOf(path) {
  const pages = PAGES[path[0] || ""];
  return pages?.[Math.max(0, path.length - 1)];
}

function App() {
  const route = useRoute();
  const [out, setOut] = useState(route.path[0] === "login");
  useEffect(() => onUnauthorized(() => setOut(true)), []);
  const inside = () => {
    setOut(false);
    if (route.path[0] === "login") go("");
  };
  if (out) return html`<${Login} over=${route.query.has("over")} done=${inside} />`;
  return html`<${Shell} route=${route} leave=${() => setOut(true)} />`;
}

function Shell({ route, leave }) {
  const main = useRef(null);
  const menu = useRef(null);
  const address = route.path.join("/");
  const first = useRef(true);
  useEffect(() => {
    menu.current.open = false;
    scrollTo(0, 0);
  }, [address]);
  const arrived = () => {
    if (!first.current) main.current.querySelector("h1")?.focus({ preventScroll: true });
    first.current = false;
  };
  useEffect(() => {
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);
  const end = () => logout().finally(nobody).then(leave, leave);
  const navigation = html`<${Navigation} here=${route.path[0] || ""} end=${end} />`;
  return html`
    <a class="skip" href="#main" onClick=${(event) => skip(event, main.current)}>To the content</a>
    <header class="top">
      <a class="mark" href=${href("")}><img src="icon.svg" alt="" width="20" height="20" /> Triage</a>
      <${News} />
      <details class="menu" ref=${menu}><summary>Menu</summary>${navigation}</details>
    </header>
    <div class="side">${navigation}</div>
    <main id="main" ref=${main} tabindex="-1"><${Shown} key=${address} name=${pageOf(route.path)} route=${route}
      arrived=${arrived} /></main>
    <${ActDialog} />`;
}

/** What one may open, and who one is. */
function Navigation({ here, end }) {
  const who = useWho();
  const mine = NAVIGATION.map(([group, pages]) => [group, pages.filter(([, , role]) => !role || may(who, role))]);
  return html`<nav aria-label="Pages">
    ${mine.map(([group, pages]) => pages.length > 0 && html`<section key=${group}><h2>${group}</h2>
      <ul>${pages.map(([to, words]) => html`<li key=${to}>
        <a href=${href(to)} aria-current=${here === to ? "page" : null}>${words}</a></li>`)}</ul>
    </section>`)}
    <footer>
      <p class="who">${who && html`<a href=${href("access")}>${visible(who.name)}</a>, ${who.role}`}</p>
      <p><button type="button" class="plain" onClick=${end}>Log out</button></p>
      <p><a href="/api/docs" target="_blank" rel="noopener">The API</a></p>
    </footer>
  </nav>`;
}

/** Whether what is shown is new; greys the page when it is not. */
function News() {
  const { state, heard, error, since } = useLive();
  const late = state === "waiting" && (heard !== null || error !== null || Date.now() - since > 2000);
  useEffect(() => {
    document.documentElement.classList.toggle("stale", late);
  }, [late]);
  if (!late) return html`<span class="news" role="status"></span>`;
  const words = heard ? `No news since ${clock(heard / 1000)}; trying again.` : "No news yet; trying again.";
  return html`<span class="news late" role="status" title=${error?.detail}>
    ${words} ${error?.status ? error.title : ""}</span>`;
}

/** A page, loaded when it is first asked for. */
function Shown({ name, route, arrived }) {
  const [loaded, set] = useState(() => known.get(name) || null); // a component is a function: it would be called
  const [error, setError] = useState(null);
  const [broken, mend] = useErrorBoundary((thrown) => console.error(thrown));
  const [turn, again] = useState(0);
  useEffect(() => {
    if (!name || loaded) return;
    import(`./pages/${name}.js`).then((module) => {
      known.set(name, module.default);
      set(() => module.default);
    }, setError);
  }, [name, turn]);
  useEffect(() => void (loaded && arrived()), [loaded]);
  if (!name) {
    return html`<${Page} title="No such page"><p>Nothing is at ${location.hash}. <a href="#/">Overview</a></p><//>`;
  }
  if (broken) {
    return html`<${Page} title="This page broke"><${Problem} retry=${mend}
      error=${{ title: broken.message, hint: "The other pages and the command still work." }} /><//>`;
  }
  if (error) {
    const words = { title: "The page could not be loaded", detail: error.message, hint: "Is Triage restarting?" };
    const retry = () => {
      setError(null);
      again(turn + 1);
    };
    return html`<${Page} title="Not loaded"><${Problem} error=${words} retry=${retry} /><//>`;
  }
  const Content = loaded;
  return Content ? html`<${Content} route=${route} />` : html`<${Loading} />`;
}

function Login({ over, done }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState(null);
  const field = useRef(null);
  useEffect(() => {
    document.title = "Log in · Triage";
    document.documentElement.classList.remove("stale");
    field.current.focus();
  }, []);
  async function enter(event) {
    event.preventDefault();
    try {
      await login(token.trim());
      nobody();
      done();
    } catch (failed) {
      setError(failed);
      field.current.select();
    }
  }
  return html`<main class="login"><form onSubmit=${enter}>
    <h1><img src="icon.svg" alt="" width="28" height="28" /> Triage</h1>
    ${over && html`<p class="note">That link is over: it works once, for a minute.
      ${" "}<code>triage open</code> makes another.</p>`}
    <label class="wide"><span>Token</span><input ref=${field} type="password" required
      autocomplete="current-password" value=${token} onInput=${(event) => setToken(event.target.value)} /></label>
    <${Problem} error=${error} />
    <button class="primary">Log in</button>
    <p class="hint">The first one is in <code>admin.token</code> in the gateway's data folder; <code>triage token make</code>
      ${" "}makes others. On its machine, <code>triage open</code> logs you in without one.</p>
  </form></main>`;
}

function skip(event, main) {
  event.preventDefault();
  main.focus();
}

/** "/" goes to the page's filter, unless one is typing. */
function keys(event) {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  const field = document.querySelector("main [data-filter]");
  if (!field) return;
  event.preventDefault();
  field.focus();
  field.select();
}

const root = document.getElementById("app");
root.replaceChildren();
render(html`<${App} />`, root);
