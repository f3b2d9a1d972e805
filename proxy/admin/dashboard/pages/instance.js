// One instance: where it stands, how it came there, what it uses, and its last lines.
import { html } from "../lib/core.js";
import { get, pathOf } from "../lib/api.js";
import { InstanceActs } from "../lib/acts.js";
import { bytes, cores, count, ms, rate, seconds } from "../lib/format.js";
import { useLive } from "../lib/live.js";
import { ByHand, Loading, Page, Problem, State, Time, UnderWay, useData } from "../lib/parts.js";
import { href } from "../lib/route.js";
import { Series, useMarks } from "../lib/series.js";
import { SpanChooser, spanOf } from "../lib/span.js";
import { shownOf, Tabs } from "../lib/tabs.js";
import { MemoryDump, Profile, Stacks } from "./deeper.js";
import { Environment } from "./environment.js";
import { Processes } from "./processes.js";

const TABS = [
  ["overview", "Overview"], ["environment", "Environment"], ["processes", "Processes"], ["stacks", "Stacks"], ["profile", "Profile"],
  ["memory-dump", "Memory dump"],
];

/** The page of `#/apps/web/web-7`. */
export default function Instance({ route }) {
  const [, app, name] = route.path;
  const path = pathOf("apps", app, "instances", name);
  const span = spanOf(route.query);
  const { live } = useLive();
  const { data, error, again } = useData((signal) => get(path, {}, signal), [path], 3000);
  const marks = useMarks(span, app, name);
  const heading = html`<a href=${href(["apps", app])}>${app}</a> / ${name}`;
  if (!data) {
    return html`<${Page} title=${name} heading=${heading}>${error ? html`<${Problem} error=${error} retry=${again} />`
      : html`<${Loading} what=${name} />`}<//>`;
  }
  const now = { ...data, ...live?.instances.find((one) => one.app === app && one.id === name) };
  const acts = html`<div class="chips"><${InstanceActs} instance=${now} /></div>`;
  const shown = shownOf(route.query, TABS);
  return html`<${Page} title=${name} heading=${heading} aside=${acts}>
    <${Problem} error=${error} retry=${again} />
    <${Tabs} tabs=${TABS} label=${`Parts of ${name}`} />
    ${shown === "overview" && html`<${Now} one=${now} />
      <${Path} moves=${data.path} />
      <${SpanChooser} span=${span} />
      <div class="charts"><${Charts} one=${data} shared=${{ span, marks }} /></div>
      <h2>Its last lines</h2>
      ${data.last_lines.length ? html`<pre tabindex="0">${data.last_lines.join("\n")}</pre>`
    : html`<p class="empty">It has written nothing.</p>`}`}
    ${shown === "environment" && html`<${Environment} ask=${(signal) => get(`${path}/environment`, {}, signal)} of=${path} />`}
    ${shown === "processes" && html`<${Processes} of=${path} />`}
    ${shown === "stacks" && html`<${Stacks} path=${path} />`}
    ${shown === "profile" && html`<${Profile} path=${path} app=${app} instance=${name} />`}
    ${shown === "memory-dump" && html`<${MemoryDump} path=${path} app=${app} instance=${name} memory=${now.memory} />`}
    <p class="links">${["logs", "requests", "events"].map((page) => html`
      <a key=${page} href=${href(page, { app, instance: name })}>Its ${page}</a> `)}</p>
  <//>`;
}

function Now({ one }) {
  const { health, last_exit: exit, operation, cpu_limit: cpuLimit, memory_limit: memoryLimit } = one;
  const well = one.lifecycle === "ready" && one.admission === "admitting";
  const facts = [
    ["Address", one.address],
    ["Process", one.pid ? `pid ${one.pid}` : "none"],
    ["Up", seconds(one.uptime_s)],
    ["Version", one.version],
    ["Requests/s", rate(one.requests_per_s)],
    ["p50 / p99", `${ms(one.p50_ms ?? one.response_ms.p50)} / ${ms(one.p99_ms ?? one.response_ms.p99)}`],
    ["In flight", `${count(one.in_flight)}${one.slots ? ` of ${count(one.slots)}` : ""}`],
    ["CPU", `${cores(one.cpu)}${cpuLimit ? ` of ${cores(cpuLimit)}` : ""} cores`],
    ["Memory", `${bytes(one.memory)}${memoryLimit ? ` of ${bytes(memoryLimit)}` : ""}`],
    ["Processes, threads", `${count(one.processes)}, ${count(one.threads)}`],
    ["Descriptors", count(one.descriptors)],
    ["Restarts", count(one.restarts)],
    ["Limits by", [one.limited_by, one.limits_why].filter(Boolean).join(": ")],
    ["Probe", health ? `${health.words}${health.fails ? `, ${health.fails} failed in a row` : ""}` : "none yet"],
  ];
  return html`<section class="verdict live ${well ? "up" : "degraded"}">
      <p><${State} value=${one.lifecycle} /> <${State} value=${one.admission} /> ${one.why}</p>
      ${one.ejected_by && html`<p>Ejected by ${one.ejected_by}.</p>`}
      ${one.failing && html`<p>It fails, and stays admitted because too many are out already.</p>`}
      <${ByHand} set=${one.by_hand} />
      ${operation && html`<${UnderWay} operation=${operation} />`}
      ${exit && html`<p>Last exit <${Time} at=${exit.time} />: ${exit.words} (${exit.certainty})</p>`}
    </section>
    <dl class="facts live">${facts.map(([word, value]) => value && html`<div key=${word}>
      <dt>${word}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** Each state that it was in, when, and for how long. */
function Path({ moves }) {
  return html`<h2>Its path</h2><ol class="lines">${moves.map((move, at) => {
    const until = moves[at + 1]?.time;
    const lasted = until && seconds((Date.parse(until) - Date.parse(move.time)) / 1000);
    return html`<li key=${move.time + move.lifecycle}><${Time} at=${move.time} /><${State} value=${move.lifecycle} />
      <span class="grow">${move.why}</span><span class="quiet">${lasted ? `for ${lasted}` : "now"}</span></li>`;
  })}</ol>`;
}

function Charts({ one, shared }) {
  const of = (name, stat) => ({ name, stat, app: one.app, instance: one.id });
  const times = ["p50", "p90", "p99"].map((stat) => of("response_time", stat));
  const named = ({ name }) => name;
  return html`
    <${Series} ...${shared} title="Requests and faults a second" unit="" asks=${[of("requests,faults")]} named=${named}
      colours=${{ faults: "--bad" }} />
    <${Series} ...${shared} title="How long answers took" asks=${times} named=${({ stat }) => stat} />
    <${Series} ...${shared} title="Memory" asks=${[of("memory")]} named=${named} limit=${one.memory_limit} />
    <${Series} ...${shared} title="CPU, cores" asks=${[of("cpu")]} named=${named} limit=${one.cpu_limit} />
    <${Series} ...${shared} title="Threads and descriptors" unit="" asks=${[of("threads,descriptors")]}
      named=${named} />
    <${Series} ...${shared} title="In flight" unit="" asks=${[of("in_flight")]} named=${() => "in flight"} />`;
}
