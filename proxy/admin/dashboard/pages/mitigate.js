// Mitigate: what is being done and was done, what may be done by hand, what is set by hand, and what acts by itself.
import { html, useState } from "../lib/core.js";
import { AppActs, InstanceActs } from "../lib/acts.js";
import { NotYours } from "../lib/act.js";
import { get, pathOf, post } from "../lib/api.js";
import { href, useRoute } from "../lib/route.js";
import { clock, count, percent } from "../lib/format.js";
import { Act, Bar, InstanceState, Loading, Page, Problem, State, Table, useData } from "../lib/parts.js";
import { useMay } from "../lib/who.js";
import { When, Where, Words } from "./blocks.js";
import { GatewayActs } from "./gateway_acts.js";
import { COLUMNS as OPERATIONS } from "./operation.js";
import { Replay } from "./replay.js";

const EVERY_MS = 2000;
const SLOWLY_MS = 5000;
const FOR = { name: "for", label: "For how long", value: "", hint: "Such as 10m or 2h; empty: until it is ended by hand." };
const SIZE = [
  { name: "memory", label: "Memory of each instance", value: "", hint: "1GB, or auto for what the config says" },
  { name: "cpus", label: "Cores of each instance", value: "", hint: "1.5, or auto for what the config says" },
];

export default function Mitigate() {
  const only = useRoute().query.get("app") || "";
  const status = useData((signal) => get("status", {}, signal), [], EVERY_MS);
  const apps = (status.data?.apps || []).filter((app) => !only || app.id === only);
  return html`<${Page} title="Mitigate" aside=${html`<${GatewayActs} then=${status.again} />`}>
    <p class="lead">Each act says what it will do before it does it.</p>
    <${NotYours} />
    <${Problem} error=${status.error} retry=${status.again} />
    ${status.loading && !status.data ? html`<${Loading} what="apps" />` : null}
    ${only && html`<p>Of ${only}. <a href=${href("mitigate")}>Of all apps</a></p>`}
    <${Operations} app=${only} />
    ${status.data && html`<section><h2>By hand</h2>
      ${apps.map((app) => html`<${App} key=${app.id} app=${app} then=${status.again} />`)}
      <${SetByHand} apps=${apps} then=${status.again} /></section>`}
    <${Rules} app=${only} />
    <${Alerts} />
  </${Page}>`;
}

function Operations({ app }) {
  const { data, error, loading, again } = useData(
    (signal) => get("operations", { app, limit: 50 }, signal), [app], EVERY_MS);
  const running = (data?.items || []).filter((one) => one.state === "running");
  const over = (data?.items || []).filter((one) => one.state !== "running");
  const to = (one) => href(["operations", one.id]);
  return html`<section><h2>Under way</h2>
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="operations" />` : null}
    ${data && html`<${Table} columns=${OPERATIONS} rows=${running} href=${to} label="Operations under way"
      empty="Nothing is under way." />`}
    ${over.length ? html`<h2>Done before</h2><${Table} columns=${OPERATIONS} rows=${over} href=${to}
      label="Operations that ended" />` : null}</section>`;
}

// --- by hand ------------------------------------------------------------------------------------------

const path = (app, act) => `apps/${pathOf(app.id)}/${act}`;

function App({ app, then }) {
  const healing = !app.by_hand?.autoheal;
  return html`<div class="by-hand"><h3><${Where} app=${app.id} /> <${State} value=${app.state} /></h3>
    <p class="quiet">${app.verdict}</p>
    <div class="acts">
      <${AppActs} app=${app} />
      <${Act} label="Resize" title=${`Resize ${app.id}`} path=${path(app, "scale")} fields=${SIZE} then=${then} />
      <${Act} label=${`Autoheal ${healing ? "off" : "on"}`} title=${`Autoheal ${healing ? "off" : "on"}: ${app.id}`}
        path=${path(app, "autoheal")} body=${{ enabled: !healing }} fields=${healing ? [FOR] : []} then=${then} />
      <${Diagnose} app=${app.id} />
    </div>
    <${Instances} app=${app} /></div>`;
}

/** Leads to the form, with what it is about filled in. */
function Diagnose({ app, instance }) {
  const allowed = useMay("operator");
  return allowed && html`<a class="button" href=${href("analyze", { app, instance })}>Diagnose</a>`;
}

const INSTANCES = [
  { id: "id", title: "Instance", wide: true, cell: (one) => one.id, sort: (one) => one.id },
  { id: "state", title: "State", cell: (one) => html`<${InstanceState} instance=${one} />` },
  { id: "acts", title: "Acts", cell: (one) => html`<span class="acts"><${InstanceActs} instance=${one} />
    <${Diagnose} app=${one.app} instance=${one.id} />
    <a class="button" href=${href(["apps", one.app, one.id], { show: "processes" })}>Processes</a></span>` },
];

/** Its instances, each with its acts; asked for once they are opened. */
function Instances({ app }) {
  const [open, set] = useState(false);
  const { data, error, again } = useData(
    (signal) => (open ? get(`apps/${pathOf(app.id)}/instances`, {}, signal) : null), [app.id, open], open ? EVERY_MS : 0);
  return html`<details open=${open} onToggle=${(event) => set(event.target.open)}>
    <summary>Instances: ${app.ready} of ${app.wanted} ready</summary>
    <${Problem} error=${error} retry=${again} />
    ${open && data && html`<${Table} columns=${INSTANCES} rows=${data.items} label=${`Instances of ${app.id}`}
      href=${(one) => href(["apps", one.app, one.id])} empty="It has no instance now." />`}</details>`;
}

const ENDS = {
  count: { label: "As configured", act: "scale", body: { auto: true } },
  memory: { label: "As configured", act: "scale", body: { memory: "auto" } },
  cpus: { label: "As configured", act: "scale", body: { cpus: "auto" } },
  autoheal: { label: "Autoheal on", act: "autoheal", body: { enabled: true } },
  muted: { label: "Unmute", act: "mute", body: { unmute: true } },
};

/** How a setting by hand is ended: a label, a path, a body. */
function ending(app, key, setting) {
  if (key.startsWith("ejected ")) {
    const instance = key.slice(8);
    return { label: "Admit", path: pathOf("apps", app.id, "instances", instance, "admit") };
  }
  if (key === "state") {
    const verb = setting.value === "held" ? "release" : "start";
    return { label: verb === "release" ? "Release" : "Start", path: path(app, verb) };
  }
  const found = ENDS[key];
  return found && { label: found.label, path: path(app, found.act), body: found.body };
}

function SetByHand({ apps, then }) {
  const rows = apps.flatMap((app) => Object.entries(app.by_hand || {}).map(([key, setting]) => ({
    id: `${app.id} ${key}`, app, key, setting, end: ending(app, key, setting) })));
  const columns = [
    { id: "app", title: "App", cell: (row) => html`<${Where} app=${row.app.id} />` },
    { id: "what", title: "Set by hand",
      cell: (row) => (row.setting.value === true ? row.key : `${row.key}: ${row.setting.value}`) },
    { id: "since", title: "Since", cell: (row) => html`<${When} at=${row.setting.time} since />` },
    { id: "until", title: "Until", cell: (row) => (row.setting.until ? clock(row.setting.until) : "ended by hand") },
    { id: "why", title: "By", wide: true, cell: (row) => [row.setting.by, row.setting.why].filter(Boolean).join(": ") },
    { id: "end", title: "End it", cell: (row) => row.end && html`<${Act} ...${row.end} then=${then}
      title=${`${row.end.label}: ${row.app.id}`} />` },
  ];
  return html`<h3>What differs from the config</h3><${Table} columns=${columns} rows=${rows} label="Set by hand"
    empty="Nothing: all is as the config says." />`;
}

// --- by itself ----------------------------------------------------------------------------------------

function Name({ of }) {
  return html`<b>${of.name}</b>${of.builtin ? html` <span class="quiet">built in</span>` : null}`;
}

const RULES = [
  { id: "rule", title: "Rule", cell: (one) => html`<${Name} of=${one} />` },
  { id: "app", title: "App", cell: (one) => html`<${Where} app=${one.app} />` },
  { id: "when", title: "When", wide: true, cell: (one) => html`<${Words} text=${one.when} />` },
  { id: "then", title: "Then", cell: (one) => `${one.then.join(", ")}${one.dry_run ? " (only says so)" : ""}` },
  { id: "state", title: "State", cell: (one) => html`<${State} value=${one.state} title=${one.why} />` },
  { id: "near", title: "How near", sort: (one) => one.nearest?.share ?? null,
    cell: (one) => html`<${Near} of=${one} />` },
  { id: "fired", title: "Last hour", num: true, sort: (one) => one.fired_last_hour,
    cell: (one) => count(one.fired_last_hour) },
  { id: "last", title: "Last fired", cell: lastFired },
];

function lastFired(one) {
  return one.last_fired ? html`<${When} at=${one.last_fired} since />` : "never";
}

/** The value against what makes the rule fire, and what keeps it from acting. */
function Near({ of }) {
  const { nearest } = of;
  const whose = nearest?.instance ? `${nearest.instance}: ` : "";
  const words = nearest ? whose + (nearest.distance || percent(nearest.share)) : "nothing seen";
  const until = of.suppressed_until && clock(of.suppressed_until);
  return html`<${Bar} value=${nearest?.share} limit=${nearest ? 1 : 0} words=${words} title=${nearest?.words || of.why} />
    ${until ? html` <span class="quiet">not before ${until}: ${of.why}</span>` : null}
    ${of.backing_off ? html` <span class="lost">${of.backing_off}</span>` : null}`;
}

function Rules({ app: only }) {
  const { data, error, loading, again } = useData((signal) => get("autoheal", {}, signal), [], SLOWLY_MS);
  const apps = (data?.items || []).filter((app) => !only || app.id === only);
  const rows = apps.flatMap((app) => app.rules.map((rule) => ({ ...rule, key: `${app.id}/${rule.id}` })));
  const off = apps.filter((app) => !app.enabled);
  return html`<section><h2>Autoheal</h2>
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="rules" />` : null}
    ${off.map((app) => html`<p class="lost" key=${app.id}>Off by hand for ${app.id}: its rules only say what they would
      do.</p>`)}
    ${data && html`<${Table} columns=${RULES} rows=${rows} rowKey=${(one) => one.key} label="Autoheal rules"
      empty="No app has a rule." />
      <${Replay} apps=${apps} />`}
  </section>`;
}

const ALERTS = [
  { id: "name", title: "Alert", cell: (one) => html`<${Name} of=${one} />` },
  { id: "when", title: "When", wide: true, cell: (one) => one.when },
  { id: "state", title: "State",
    cell: (one) => html`<${State} value=${one.muted_until ? "muted" : one.state} title=${one.words} />` },
  { id: "words", title: "Now", wide: true, cell: (one) => one.words },
  { id: "notify", title: "Tells", cell: (one) => (one.notify || []).join(", ") || "nobody" },
  { id: "last", title: "Last fired", cell: lastFired },
];

const MESSAGES = [
  { id: "time", title: "Time", cell: (one) => html`<${When} at=${one.time} />` },
  { id: "incident", title: "Incident", cell: (one) => one.incident
    && html`<a href=${href(["incidents", one.incident])}>${one.incident}</a>` },
  { id: "event", title: "Says", wide: true, cell: (one) => `${one.event}: ${one.title}` },
  { id: "to", title: "To", cell: (one) => one.notifier },
  { id: "state", title: "State", cell: (one) => html`<${State} value=${one.state} />` },
  { id: "tries", title: "Attempts", num: true, cell: (one) => one.attempts },
  { id: "error", title: "What failed", wide: true, cell: (one) => one.error },
];

function Alerts() {
  const { data, error, loading, again } = useData((signal) => get("alerts", {}, signal), [], SLOWLY_MS);
  const notifiers = [
    { id: "id", title: "Notifier", cell: (one) => html`<b>${one.id}</b> <span class="quiet">${one.kind}</span>` },
    { id: "target", title: "Target", wide: true, cell: (one) => one.target },
    { id: "state", title: "State", cell: (one) => html`<${State} value=${one.state} />` },
    { id: "last", title: "Last", cell: (one) => html`<${When} at=${one.last} since />` },
    { id: "error", title: "What failed", wide: true, cell: (one) => one.error },
    { id: "waiting", title: "Waiting", num: true, cell: (one) => count(one.waiting) },
    { id: "dropped", title: "Given up", num: true, cell: (one) => count(one.dropped) },
    { id: "test", title: "Try it", cell: (one) => html`<${Test} notifier=${one.id} then=${again} />` },
  ];
  return html`<section><h2>Alerts</h2>
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="alerts" />` : null}
    ${data && html`
      <${Table} columns=${ALERTS} rows=${data.items || []} label="Alert rules" empty="There is no alert rule." />
      <h3>Who is told</h3>
      <${Table} columns=${notifiers} rows=${data.notifiers || []} label="Notifiers"
        empty=${data.words || "Nobody."} />
      ${data.messages?.length ? html`<h3>Messages</h3>
        <${Table} columns=${MESSAGES} rows=${data.messages} label="Messages" />` : null}`}
  </section>`;
}

/** Sends a message that says that it is a test. */
function Test({ notifier, then }) {
  const [said, say] = useState(null);
  const allowed = useMay("operator");
  async function send() {
    say({ words: "sending" });
    try {
      const answer = await post("alerts/test", { notifier });
      say(answer.ok ? { words: `sent: ${answer.words}` } : { words: answer.error, bad: true });
    } catch (error) {
      say({ words: `${error.title} ${error.detail || ""}`, bad: true });
    }
    then();
  }
  if (!allowed) return html`<span class="quiet">needs the role operator</span>`;
  return html`<button type="button" class="small" onClick=${send} disabled=${said?.words === "sending"}>Send a test</button>
    <span role="status" class=${said?.bad ? "lost" : "quiet"}> ${said?.words || ""}</span>`;
}
