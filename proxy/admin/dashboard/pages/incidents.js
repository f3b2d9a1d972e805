// Incidents: spans of time in which an app, the gateway or the host was not well. The open ones first.
import { html } from "../lib/core.js";
import { get } from "../lib/api.js";
import { href, useRoute } from "../lib/route.js";
import { count, percent, seconds } from "../lib/format.js";
import { Filters, Loading, Page, Problem, State, Table, useData } from "../lib/parts.js";
import { When, Where } from "./blocks.js";

const EVERY_MS = 3000;
const FIELDS = [
  { name: "app", label: "App" },
  { name: "open", label: "Only open ones", type: "check" },
  { name: "since", label: "Since", placeholder: "7d" },
];

/** Who it is about: an app's name, or "the gateway", "the host". */
export const subject = (one) => (one.scope === "app" ? one.app : `the ${one.scope}`);

export const COLUMNS = [
  { id: "id", title: "Incident", cell: (one) => one.id },
  { id: "state", title: "State", cell: (one) => html`<${State} value=${one.state === "open" ? one.severity : "closed"}
    kind=${one.state !== "open" ? "quiet" : one.severity === "down" ? "bad" : "busy"} />` },
  { id: "of", title: "Of", cell: (one) => (one.scope === "app" ? html`<${Where} app=${one.app} />` : subject(one)) },
  { id: "cause", title: "Cause", wide: true, cell: (one) => one.cause },
  { id: "began", title: "Since", sort: (one) => one.began, cell: (one) => html`<${When} at=${one.began} />` },
  { id: "lasted", title: "Lasted", num: true, sort: (one) => one.lasted_s,
    cell: (one) => seconds(one.lasted_s) },
  { id: "share", title: "Requests hit", num: true, sort: (one) => one.share, cell: (one) => hit(one) },
];

/** "31 of 91,211, 0.03 %" */
export const hit = (one) => (one.requests
  ? `${count(one.hit)} of ${count(one.requests)}, ${percent(one.share)}` : "none seen");

export default function Incidents() {
  const { query } = useRoute();
  const asked = {
    app: query.get("app"), open: query.get("open"), since: query.get("since"), cursor: query.get("cursor"), limit: 100,
  };
  const older = { ...asked, limit: null, cursor: null };
  const { data, error, loading, again } = useData(
    (signal) => get("incidents", asked, signal), [JSON.stringify(asked)], EVERY_MS);
  const rows = data ? [...data.items].sort((one, other) => (other.state === "open") - (one.state === "open")) : [];
  const open = rows.filter((one) => one.state === "open").length;
  return html`<${Page} title="Incidents">
    <${Filters} fields=${FIELDS} />
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="incidents" />` : null}
    ${data && html`<p class="lead">${open ? `${open} open now.` : "None is open now."}</p>
      <${Table} columns=${COLUMNS} rows=${rows} label="Incidents" href=${(one) => href(["incidents", one.id])}
        empty="No incident: nothing was degraded or down in that time." />
      ${data.next ? html`<p><a href=${href("incidents", { ...older, cursor: data.next })}>Older</a></p>` : null}`}
  </${Page}>`;
}
