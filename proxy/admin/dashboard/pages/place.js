// Where commands and terminals run: on the gateway, or in an instance's place.
import { html } from "../lib/core.js";
import { get, pathOf } from "../lib/api.js";
import { setQuery, useRoute } from "../lib/route.js";
import { Problem, useData } from "../lib/parts.js";

/** Where commands and terminals run, as the address has it: `{app, instance, root, dir}`; all empty: the gateway. */
export function placeOf(query) {
  const app = query.get("app") || "";
  const [root, ...dir] = (query.get("in") || "").split("/").filter(Boolean);
  return { app, instance: app ? query.get("instance") || "" : "", root: root || "", dir: dir.join("/") };
}

/** The same in words. */
export function wordsOf({ app, instance, root, dir }) {
  const folder = root ? ` in ${root}/${dir}` : "";
  return `${instance || app || "the gateway"}${folder}`;
}

/** Choose one. */
export function Place() {
  const { query } = useRoute();
  const { app, instance } = placeOf(query);
  const apps = useData((signal) => get("apps", {}, signal), [], 10_000);
  const instances = useData(
    (signal) => (app ? get(`apps/${pathOf(app)}/instances`, {}, signal) : { items: [] }), [app], app ? 5000 : 0);
  const known = (apps.data?.items || []).filter((one) => one.kind !== "addresses").map((one) => one.id);
  const running = (instances.data?.items || []).filter((one) => one.pid).map((one) => one.id);
  return html`<div class="filters">
      <label><span>Where</span><select name="app" value=${app}
        onChange=${(event) => setQuery({ app: event.target.value, instance: null })}>
        <option value="" selected=${!app}>the gateway</option>
        ${known.map((one) => html`<option key=${one} value=${one} selected=${one === app}>${one}</option>`)}</select></label>
      ${app && html`<label><span>Instance</span><select name="instance" value=${instance}
        onChange=${(event) => setQuery({ instance: event.target.value })}>
        <option value="" selected=${!instance}>any that runs</option>
        ${instance && !running.includes(instance) && html`<option value=${instance} selected>${instance} (ended)</option>`}
        ${running.map((one) => html`<option key=${one} value=${one} selected=${one === instance}>${one}</option>`)}
        </select></label>`}
      <label><span>Folder</span><input name="in" value=${query.get("in") || ""} placeholder="its own" spellcheck=${false} autocomplete="off"
        title="One of the console's roots, or a folder below it: web/logs"
        onChange=${(event) => setQuery({ in: event.target.value.trim() })} /></label>
      <span class="hint">${app ? "With its user and environment." : "With Triage's own user and environment."}</span>
    </div><${Problem} error=${apps.error || instances.error} />`;
}
