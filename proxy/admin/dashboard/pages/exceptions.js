// Tracebacks and panics out of the apps' logs, grouped: how often, since when, on which instances and versions.
import { html } from "../lib/core.js";
import { get } from "../lib/api.js";
import { href, useRoute } from "../lib/route.js";
import { count } from "../lib/format.js";
import { Filters, Loading, Page, Problem, Table, useData } from "../lib/parts.js";
import { When, Where } from "./blocks.js";

const EVERY_MS = 5000;
const FIELDS = [{ name: "app", label: "App" }, { name: "since", label: "Since", placeholder: "24h" }];

export const COLUMNS = [
  { id: "type", title: "Exception", wide: true, cell: (one) => html`<b>${one.type}</b> ${one.message}` },
  { id: "count", title: "Times", num: true, sort: (one) => one.count, cell: (one) => count(one.count) },
  { id: "hour", title: "Last hour", num: true, sort: (one) => one.in_last_hour,
    cell: (one) => count(one.in_last_hour) },
  { id: "where", title: "Where", cell: (one) => html`<code>${one.where}</code>` },
  { id: "app", title: "App", cell: (one) => html`<${Where} app=${one.app} />` },
  { id: "first", title: "First", sort: (one) => one.first, cell: (one) => html`<${When} at=${one.first} />` },
  { id: "last", title: "Last", sort: (one) => one.last, cell: (one) => html`<${When} at=${one.last} since />` },
];

export default function Exceptions() {
  const { query } = useRoute();
  const asked = { app: query.get("app"), since: query.get("since"), limit: 200 };
  const { data, error, loading, again } = useData(
    (signal) => get("exceptions", asked, signal), [JSON.stringify(asked)], EVERY_MS);
  return html`<${Page} title="Exceptions">
    <p class="lead">Tracebacks and panics that the apps wrote, the same ones counted together.</p>
    <${Filters} fields=${FIELDS} />
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="exceptions" />` : null}
    ${data && html`<${Table} columns=${COLUMNS} rows=${data.items} rowKey=${(one) => `${one.app}/${one.id}`}
      label="Exceptions" href=${(one) => href(["exceptions", one.id], { app: one.app })}
      empty="No traceback and no panic was seen in the apps' output and log files." />`}
  </${Page}>`;
}
