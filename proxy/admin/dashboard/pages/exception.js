// One kind of exception: how often and where, and the whole of it as it was written last.
import { html } from "../lib/core.js";
import { get, pathOf } from "../lib/api.js";
import { href, useRoute } from "../lib/route.js";
import { ago, count } from "../lib/format.js";
import { Loading, Page, Problem, useData } from "../lib/parts.js";
import { Copy, Facts, When, Where } from "./blocks.js";

const EVERY_MS = 5000;

export default function Exception() {
  const { path, query } = useRoute();
  const id = path[1], app = query.get("app") || "";
  const { data: one, error, loading, again } = useData(
    (signal) => get(`exceptions/${pathOf(id)}`, { app }, signal), [id, app], EVERY_MS);
  return html`<${Page} title=${one ? `${one.type} in ${one.app}` : `Exception ${id}`}>
    <${Problem} error=${error} retry=${again} />
    ${loading && !one ? html`<${Loading} what="the exception" />` : null}
    ${one && html`
      <p class="lead">${one.message}</p>
      <${Facts} of=${[
        ["Times", `${count(one.count)}, ${count(one.in_last_hour)} of them in the last hour`],
        ["First", html`<${When} at=${one.first} since />`], ["Last", html`<${When} at=${one.last} since />`],
        ["App", html`<${Where} app=${one.app} />`], ["Where", one.where && html`<code>${one.where}</code>`],
        ["Runtime", one.runtime],
        ["Instances", listed(one.instances)], ["Versions", listed(one.versions)],
      ]} />
      <p><a href=${href("logs", { app: one.app, grep: one.type })}>Lines in the log</a></p>
      <h2>As it was written${one.last ? `, ${ago(one.last)}` : ""}</h2>
      <pre class="sample">${(one.sample || []).join("\n")}</pre>
      <p><${Copy} text=${(one.sample || []).join("\n")} /></p>`}
  </${Page}>`;
}

const listed = (value) => (Array.isArray(value) ? value.join(", ") : value && typeof value === "object"
  ? Object.entries(value).map(([name, times]) => `${name} (${count(times)})`).join(", ") : value);
