// Processes as a tree, and one of them whole: its threads, files, connections, modules, variables; and its end by hand.
import { html, useState } from "../lib/core.js";
import { get, pathOf } from "../lib/api.js";
import { Act } from "../lib/act.js";
import { ago, bytes, clock, count, percent, seconds, visible } from "../lib/format.js";
import { href, setQuery, useRoute } from "../lib/route.js";
import { Loading, Problem, State, Table, useData } from "../lib/parts.js";
import { useMay } from "../lib/who.js";
import { counts, Facts, Pairs, When } from "./blocks.js";

const EVERY_MS = 4000;
const SIGNALS = [
  ["TERM", "TERM: asks it to end"], ["KILL", "KILL: ends it at once"], ["INT", "INT: as Ctrl+C"],
  ["QUIT", "QUIT: ends, may leave a core file"], ["ABRT", "ABRT: ends, may leave a core file"],
  ["HUP", "HUP: often reads its config again"], ["USR1", "USR1: what the app makes of it"], ["USR2", "USR2: what the app makes of it"],
];
const LOOKS = [["", "About it"], ["threads", "Threads"], ["files", "Files"], ["connections", "Connections"], ["modules", "Modules"],
  ["environment", "Variables"]];
const KINDS = {
  running: "good", zombie: "bad", ended: "bad", hidden: "bad", stopped: "busy", traced: "busy",
  "waiting in the kernel": "busy",
};

function ProcessState({ of: { state, notes } }) {
  return html`<${State} value=${state} kind=${KINDS[state] || "quiet"} title=${notes?.join("; ")} />`;
}

/** Of an instance, whose path below /api/v1 is `of`; of all of Triage where that is "". */
export function Processes({ of = "" }) {
  const route = useRoute();
  const pid = route.query.get("pid") || "";
  const path = of ? `${of}/processes` : "processes";
  const acts = useMay("operator") && of;
  const { data, error, loading, again } = useData((signal) => get(path, { limit: 500 }, signal), [path], EVERY_MS);
  const to = (one) => {
    const query = new URLSearchParams(route.query);
    query.set("pid", one.pid);
    return href(route.path, query);
  };
  const rows = data?.items || [];
  return html`<${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="processes" />` : null}
    ${data && html`<p class="quiet">${sum(data)}</p>
      <div class="tree ${acts ? "has-acts" : ""}"><${Table} rows=${rows} label="Processes"
        columns=${columns(of, again).slice(0, acts ? undefined : -1)}
        href=${of ? to : null} kind=${(one) => (String(one.pid) === pid ? "chosen" : "")} empty="It has no process now." /></div>
      <${Notes} of=${data.notes} />
      ${data.next && html`<p class="quiet">There are more than are shown.</p>`}`}
    ${of && pid && html`<${One} key=${pid} path=${of} pid=${pid} kills=${again} />`}`;
}

function sum({ items, total, group_memory: group }) {
  const all = (name) => items.reduce((before, one) => before + (one[name] || 0), 0);
  const memory = group ? `${bytes(group)} in its cgroup` : `${bytes(all("private"))} of their own`;
  return `${several(total ?? items.length, "process", "processes")}, ${several(all("threads"), "thread", "threads")}, ${memory}.`;
}

const several = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;
const known = (value, write = count) => (value === null || value === undefined ? "–" : write(value));

const columns = (of, again) => [
  { id: "pid", title: "Process", cell: (one) => html`<span class="branch" style=${{ "--depth": Math.min(one.depth || 0, 12) }}>
    ${visible(one.name || "?")} <span class="quiet">${one.pid}</span></span>` },
  { id: "role", title: "Role", cell: (one) => (one.of?.startsWith(one.role) ? one.of : [one.role, one.of].filter(Boolean).join(" ")) },
  { id: "state", title: "State", cell: (one) => html`<${ProcessState} of=${one} />` },
  { id: "cpu", title: "CPU", num: true, hint: "Percent of one core, between two looks", sort: (one) => one.cpu,
    cell: (one) => known(one.cpu, (value) => percent(value / 100)) },
  { id: "memory", title: "Memory", num: true, hint: "In RAM; what processes share is counted for each", sort: (one) => one.memory,
    cell: (one) => known(one.memory, bytes) },
  { id: "private", title: "Its own", num: true, hint: "That no other process shares", sort: (one) => one.private,
    cell: (one) => known(one.private, bytes) },
  { id: "threads", title: "Threads", num: true, cell: (one) => known(one.threads), sort: (one) => one.threads },
  { id: "files", title: "Files", num: true, cell: (one) => known(one.files), sort: (one) => one.files },
  { id: "sockets", title: "Sockets", num: true, cell: (one) => known(one.sockets), sort: (one) => one.sockets },
  { id: "user", title: "User", cell: (one) => one.user },
  { id: "began", title: "Up", num: true,
    cell: (one) => one.began && html`<span title=${clock(one.began)}>${since(one.began)}</span>` },
  { id: "command", title: "Command", wide: true,
    cell: (one) => html`<code class="one-line" title=${visible(one.command)}>${visible(one.command)}</code>` },
  { id: "kill", title: "", cell: (one) => one.state !== "ended" && html`<${Kill} of=${of} one=${one} then=${again} />` },
];

const since = (time) => ago(time).replace(/ ago$/, "");

function Kill({ of, one, then }) {
  const fields = [{ name: "signal", label: "Signal", type: "select", options: SIGNALS, value: "TERM" }];
  return html`<${Act} label="Kill" title=${`Kill pid ${one.pid} (${visible(one.name)})`} danger then=${then} fields=${fields}
    path=${`${of}/processes/${pathOf(String(one.pid))}/kill`} body=${one.start ? { start: one.start } : {}} />`;
}

/** What could not be read, and why. */
function Notes({ of }) {
  return of?.length > 0 && html`<p class="quiet">Left out: ${of.join("; ")}.</p>`;
}

// --- one of them ---------------------------------------------------------------------------------------

function One({ path, pid, kills }) {
  const route = useRoute();
  const look = LOOKS.some(([value]) => value === route.query.get("look")) ? route.query.get("look") : "";
  const { data, error, loading, again } = useData(
    (signal) => get(`${path}/processes/${pathOf(pid)}`, {}, signal), [path, pid], EVERY_MS);
  const to = (value) => {
    const query = new URLSearchParams(route.query);
    if (value) query.set("look", value);
    else query.delete("look");
    return href(route.path, query);
  };
  return html`<section class="one-process" aria-label=${`Process ${pid}`}>
    <header class="page-head"><h2>${data ? html`${visible(data.name)} <span class="quiet">pid ${pid}</span>` : `pid ${pid}`}</h2>
      <div class="acts">${data && html`<${Kill} of=${path} one=${data} then=${kills} />`}
        <button type="button" onClick=${() => setQuery({ pid: null, look: null })}>Close</button></div></header>
    <nav class="tabs" aria-label="Of this process"><ul>${LOOKS.map(([value, words]) => html`<li key=${value}>
      <a href=${to(value)} aria-current=${value === look ? "page" : null}>${words}</a></li>`)}</ul></nav>
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what=${`process ${pid}`} />` : null}
    ${data && look === "" && html`<${About} one=${data} />`}
    ${data && look === "modules" && html`<${Table} columns=${MODULES} rows=${data.modules || []} rowKey=${(one) => one.path}
      label="Modules" empty="It has mapped no file." />`}
    ${data && look === "environment" && html`<${Pairs} of=${data.environment} label="Variables"
      empty="It has none, or they may not be read." />`}
    ${["threads", "files", "connections"].includes(look) && html`<${Listed} key=${look} path=${path} pid=${pid} look=${look} />`}
    ${data && html`<${Notes} of=${data.notes} />`}
  </section>`;
}

function About({ one }) {
  const { memory_by_kind: kinds = {}, counts = {}, io = {}, limits = {} } = one;
  return html`<${Facts} of=${[
      ["Command", html`<code>${visible(one.command)}</code>`], ["Program", one.exe && visible(one.exe)],
      ["Folder", one.cwd && visible(one.cwd)],
      ["User", one.user], ["Parent", one.parent], ["Began", one.began && html`<${When} at=${one.began} since />`],
      ["CPU used", seconds(one.cpu_s)], ["Nice", one.nice], ["Out-of-memory score", one.oom_score],
      ["Cgroup", [...new Set(one.cgroups)].filter((name) => name && name !== "/").join(", ")],
    ]} />
    <div class="columns">
      <section><h3>Memory</h3><${Pairs} of=${written(kinds, bytes)} label="Memory by kind" empty="It may not be read." /></section>
      <section><h3>Counts</h3><${Pairs} of=${{ ...written(counts, count), ...written(io, bytes) }} label="Counts"
        empty="They may not be read." /></section>
      <section><h3>Limits, soft and hard</h3><${Pairs} of=${written(limits, (pair) => pair.join(" / "))} label="Limits"
        empty="They may not be read." /></section>
    </div>`;
}

const written = (of, write) => Object.fromEntries(Object.entries(of).map(([name, value]) => [name.replaceAll("_", " "), write(value)]));

const MODULES = [
  { id: "path", title: "File", wide: true, sort: (one) => one.path,
    cell: (one) => html`<code>${visible(one.path)}</code>
      ${one.deleted ? html` <span class="lost">replaced or deleted since</span>` : null}` },
  { id: "code", title: "Holds", cell: (one) => (one.code ? "code" : "data") },
  { id: "size", title: "Mapped", num: true, cell: (one) => bytes(one.size), sort: (one) => one.size },
];

const THREADS = [
  { id: "tid", title: "Thread", num: true, cell: (one) => one.tid, sort: (one) => one.tid },
  { id: "name", title: "Name", cell: (one) => `${visible(one.name)}${one.main ? " (main)" : ""}` },
  { id: "state", title: "State", cell: (one) => html`<${ProcessState} of=${one} />` },
  { id: "cpu", title: "CPU", num: true, cell: (one) => known(one.cpu, (value) => percent(value / 100)), sort: (one) => one.cpu },
  { id: "cpu_s", title: "CPU used", num: true, cell: (one) => seconds(one.cpu_s), sort: (one) => one.cpu_s },
  { id: "call", title: "In", cell: (one) => one.call || one.wait_channel },
  { id: "waits", title: "Waits on", wide: true, cell: (one) => (one.waits_on || []).map(visible).join(", ") },
];

const FILES = [
  { id: "fd", title: "Number", num: true, cell: (one) => one.fd, sort: (one) => one.fd },
  { id: "kind", title: "Kind", cell: (one) => one.kind, sort: (one) => one.kind },
  { id: "target", title: "Leads to", wide: true, sort: (one) => one.target,
    cell: (one) => html`<code>${visible(one.target)}</code>${one.deleted ? html` <span class="lost">deleted</span>` : null}` },
  { id: "mode", title: "Opened to", cell: (one) => one.mode },
  { id: "size", title: "Size", num: true, cell: (one) => known(one.size, bytes), sort: (one) => one.size },
  { id: "position", title: "At", num: true, cell: (one) => known(one.position) },
];

const CONNECTIONS = [
  { id: "kind", title: "Kind", cell: (one) => one.kind, sort: (one) => one.kind },
  { id: "state", title: "State", cell: (one) => one.state, sort: (one) => one.state },
  { id: "local", title: "Here", wide: true, cell: (one) => html`<code>${visible(one.local)}</code>` },
  { id: "side", title: "", cell: (one) => one.side },
  { id: "remote", title: "There", wide: true,
    cell: (one) => html`<code>${visible(one.remote)}</code>${one.name ? ` ${visible(one.name)}` : ""}` },
  { id: "peer", title: "Whose", cell: (one) => (one.peer ? `${one.peer.of || visible(one.peer.name)} ${one.peer.pid}` : "") },
  { id: "receive", title: "To read", num: true, hint: "Bytes that have come and were not read", cell: (one) => known(one.receive, bytes),
    sort: (one) => one.receive },
  { id: "send", title: "To send", num: true, hint: "Bytes that were written and not yet taken", cell: (one) => known(one.send, bytes),
    sort: (one) => one.send },
];

const LISTS = {
  threads: [THREADS, "It has no thread."], files: [FILES, "It has nothing open."], connections: [CONNECTIONS, "It has no connection."],
};

const totals = (of) => (of && Object.keys(of).length ? `: ${counts(of)}` : "");

function Listed({ path, pid, look }) {
  const [wanted, want] = useState(200);
  const { data, error, loading, again } = useData(
    (signal) => get(`${path}/${look}`, { pid, limit: wanted }, signal), [path, pid, look, wanted], EVERY_MS);
  const [shown, empty] = LISTS[look];
  return html`<${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what=${look} />` : null}
    ${data && html`<p class="quiet">${count(data.total)}${totals(data.by_kind || data.by_state)}</p>
      <${Table} columns=${shown} rows=${data.items} label=${look} empty=${empty} />
      <${Notes} of=${data.notes} />
      ${data.next && (wanted < 1000 ? html`<p><button type="button" onClick=${() => want(1000)}>More</button></p>`
    : html`<p class="quiet">There are more than are shown.</p>`)}`}`;
}
