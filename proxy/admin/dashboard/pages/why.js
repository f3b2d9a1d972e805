// Why: the answer to "why did this request fail, what is this incident, how is this app", by typing its id.
import { html, useState } from "../lib/core.js";
import { pathOf } from "../lib/api.js";
import { go, href, useRoute } from "../lib/route.js";
import { Page } from "../lib/parts.js";
import { AskedWhy } from "./blocks.js";

/** Where the API answers for an id: an incident by its form, an app by its name, else a request. */
function pathFor(id, apps) {
  if (/^INC-\d+$/i.test(id)) return `incidents/${pathOf(id.toUpperCase())}/why`;
  if (apps.includes(id)) return `apps/${pathOf(id)}/why`;
  return `requests/${pathOf(id)}/why`;
}

/** A field for an id; Enter leads to its answer. `apps`: names. */
export function AskWhy({ apps = [], value = "" }) {
  const [typed, type] = useState(value);
  const ask = (event) => {
    event.preventDefault();
    const id = typed.trim();
    if (id) go(["why", id], apps.includes(id) ? { app: "true" } : {});
  };
  return html`<form class="ask-why" onSubmit=${ask} role="search"><label class="wide">
    <span>Why? Any start of a request's id, an incident such as INC-3, or an app</span>
    <input type="search" name="id" value=${typed} list="why-apps" spellcheck=${false} autocomplete="off"
      onInput=${(event) => type(event.target.value)} /></label>
    <datalist id="why-apps">${apps.map((one) => html`<option key=${one} value=${one} />`)}</datalist>
    <button>Ask why</button></form>`;
}

export default function Why() {
  const { path, query } = useRoute();
  const id = path[1] || "";
  const isApp = query.get("app") === "true";
  return html`<${Page} title=${id ? `Why ${id}` : "Why"}>
    <${AskWhy} key=${id} value=${id} apps=${isApp ? [id] : []} />
    ${id ? html`<${AskedWhy} key=${id} path=${pathFor(id, isApp ? [id] : [])} />`
      : html`<p class="empty">An id stands in each answer that Triage gives itself, in the access log, and in
        ${" "}<a href=${href("requests", { fault: "any" })}>the list of requests</a>.</p>`}
  </${Page}>`;
}
