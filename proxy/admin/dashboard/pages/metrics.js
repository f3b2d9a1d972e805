// Any metric in a chart: per app or instance, or of the gateway and the host. The address holds what is shown.
import { html } from "../lib/core.js";
import { get } from "../lib/api.js";
import { useLive } from "../lib/live.js";
import { Coded, Empty, Loading, Page, Problem, useData } from "../lib/parts.js";
import { setQuery } from "../lib/route.js";
import { HeatmapOf, Series, useMarks } from "../lib/series.js";
import { SpanChooser, spanOf } from "../lib/span.js";

const FIRST = "requests,faults,response_time,memory";

/** The page of `#/metrics?name=memory,cpu&app=web&instance=each&from=1h`; `stat` is `name:stat` with commas. */
export default function Metrics({ route }) {
  const { query } = route;
  const { data, error, again } = useData((signal) => get("metrics", {}, signal), []);
  const span = spanOf(query, "1h");
  const app = query.get("app") || "each", instance = query.get("instance") || "";
  const marks = useMarks(span, app === "each" ? "" : app, ["", "each"].includes(instance) ? "" : instance);
  if (!data) {
    return html`<${Page} title="Metrics"><${Problem} error=${error} retry=${again} />
      ${!error && html`<${Loading} />`}<//>`;
  }
  const known = new Map(data.items.map((one) => [one.id, one]));
  const names = (query.get("name") ?? FIRST).split(",").filter(Boolean);
  const stats = Object.fromEntries((query.get("stat") || "").split(",").filter(Boolean).map((one) => one.split(":")));
  return html`<${Page} title="Metrics" aside=${html`<${SpanChooser} span=${span} />`}>
    <${Whose} app=${app} instance=${instance} />
    <${Adder} metrics=${data.items} names=${names} />
    ${names.length === 0 && html`<${Empty}>No chart yet: add a metric above.<//>`}
    <div class="charts">${names.map((name) => (known.has(name) ? html`<${One} key=${name} metric=${known.get(name)}
        names=${names} stats=${stats} app=${app} instance=${instance} span=${span} marks=${marks} />`
    : html`<section key=${name}><h2>${name}</h2><${Problem} error=${{ title: `There is no metric ${name}.` }} />
      <${Remove} name=${name} names=${names} /></section>`))}</div>
  <//>`;
}

/** Of which app and instance the charts are. */
function Whose({ app, instance }) {
  const { live } = useLive();
  const apps = (live?.apps || []).map((one) => one.id);
  const instances = (live?.instances || []).filter((one) => one.app === app).map((one) => one.id);
  return html`<div class="filters">
    <${Choice} label="App" value=${app} set=${(value) => setQuery({ app: value, instance: null })}
      options=${[["each", "each app"], ...apps.map((one) => [one, one])]} />
    ${app !== "each" && html`<${Choice} label="Instance" value=${instance}
      set=${(value) => setQuery({ instance: value })} options=${[
        ["", "all together"], ["each", "each of them"], ...instances.map((one) => [one, one])]} />`}
  </div>`;
}

function Choice({ label, value, options, set }) {
  const all = options.some(([one]) => one === value) ? options : [...options, [value, value]];
  return html`<label><span>${label}</span><select value=${value} onChange=${(event) => set(event.target.value)}>
    ${all.map(([one, words]) => html`<option key=${one} value=${one} selected=${one === value}>${words}</option>`)}
  </select></label>`;
}

/** Every metric with what it means; a press puts its chart on the page, or takes it off. */
function Adder({ metrics, names }) {
  const toggle = (name) => put(names.includes(name) ? names.filter((one) => one !== name) : [...names, name]);
  const groups = [["Of apps and instances", ofApps], ["Of the gateway and the host", (one) => !ofApps(one)]];
  return html`<details class="adder" open=${!names.length}><summary>Add a metric</summary>
    ${groups.map(([words, mine]) => html`<section key=${words}><h3>${words}</h3><div class="chips">
      ${metrics.filter(mine).map(({ id, meaning, unit }) => html`<button type="button" class="chip" key=${id}
        title="${meaning} (${unit})" aria-pressed=${names.includes(id)} onClick=${() => toggle(id)}>${id}</button>`)}
    </div></section>`)}
  </details>`;
}

const ofApps = ({ of }) => of.includes("app") || of.includes("instance");

function put(names) {
  setQuery({ name: names.join(",") || "," }, { step: true });
}

function Remove({ name, names }) {
  return html`<button type="button" class="small" onClick=${() => put(names.filter((one) => one !== name))}
    aria-label=${`Take ${name} off the page`}>Remove</button>`;
}

function One({ metric, names, stats, app, instance, span, marks }) {
  const { id, unit, meaning, of, kind } = metric;
  const chosen = stats[id] || (kind === "histogram" ? "percentiles" : metric.default_stat);
  const ask = askOf(id, of, app, instance);
  const choices = kind === "histogram" ? ["percentiles", ...metric.stats] : metric.stats;
  const choose = (stat) => {
    const all = Object.entries({ ...stats, [id]: stat });
    setQuery({ stat: all.map((one) => one.join(":")).join(",") });
  };
  const asked = chosen === "percentiles" ? ["p50", "p90", "p99"] : [chosen];
  const aside = html`<small>${unitOf(unit, kind, chosen)}</small>`;
  return html`<div class="metric">
    ${chosen === "heatmap" ? html`<${HeatmapOf} title=${id} ask=${ask} span=${span} />`
    : html`<${Series} title=${id} aside=${aside} asks=${asked.map((stat) => ({ ...ask, stat }))} span=${span}
      marks=${marks} height=${190} unit=${unitOf(unit, kind, chosen)}
      named=${(one) => labelOf(one, app, asked.length > 1)} />`}
    <p class="hint"><${Coded} text=${meaning} />
      ${choices.length > 1 && html` <${Choice} label="as" value=${chosen} set=${choose}
        options=${choices.map((one) => [one, one])} />`}
      ${" "}<${Remove} name=${id} names=${names} /></p>
  </div>`;
}

/** What is known of instances alone is shown of each; what only apps have, or only the gateway, has no instance. */
function askOf(name, of, app, instance) {
  if (!of.includes("app") && !of.includes("instance")) return { name };
  if (!of.includes("instance")) return { name, app };
  return { name, app, instance: instance || (of.includes("app") ? "" : "each") };
}

/** A counter's rate is per second; its sum is in its own unit. */
function unitOf(unit, kind, stat) {
  if (stat === "count") return "requests";
  return kind === "counter" && stat === "rate" ? `${unit}/s` : unit;
}

/** What tells a series from the others of its chart. */
function labelOf({ name, app, instance, stat }, chosen, several) {
  return [chosen === "each" ? app : "", instance, several ? stat : ""].filter(Boolean).join(" ") || app || name;
}
