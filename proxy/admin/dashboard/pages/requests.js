// Kept requests, newest first: what went wrong or was slow, as it comes. All filters are in the address.
import { html, useEffect, useState } from "../lib/core.js";
import { get } from "../lib/api.js";
import { href, useRoute } from "../lib/route.js";
import { bytes, ms } from "../lib/format.js";
import { Filters, Loading, Page, Problem, Table, useData } from "../lib/parts.js";
import { counts, Stream, When, Where } from "./blocks.js";

const NAMES = ["app", "instance", "method", "path", "fault", "status", "slower", "since"];
const LIMIT = 200;
const EVERY_MS = 2000;

const FIELDS = [
  { name: "app", label: "App" },
  { name: "instance", label: "Instance", placeholder: "web-7" },
  { name: "method", label: "Method", placeholder: "POST" },
  { name: "path", label: "Path", placeholder: "/api/*", wide: true },
  { name: "fault", label: "Fault", placeholder: "any, or its name" },
  { name: "status", label: "Status", placeholder: "5xx, >=500" },
  { name: "slower", label: "Slower than", placeholder: "1s" },
  { name: "since", label: "Since", placeholder: "15m" },
];

const COLUMNS = [
  { id: "time", title: "Time", cell: (one) => html`<${When} at=${one.time} />` },
  { id: "outcome", title: "Outcome", cell: (one) => html`<${Outcome} of=${one} />` },
  { id: "request", title: "Request", wide: true,
    cell: (one) => html`<span class="target">${one.method} ${one.target}</span>` },
  { id: "instance", title: "Instance", cell: (one) => html`<${Where} app=${one.app} instance=${one.instance} />` },
  { id: "total", title: "Took", num: true, sort: (one) => one.timings.total_ms,
    cell: (one) => ms(one.timings.total_ms) },
  { id: "wait", title: "Waited", num: true, sort: (one) => one.timings.wait_ms ?? null,
    hint: "for the first byte of the instance's answer", cell: (one) => ms(one.timings.wait_ms) },
  { id: "tries", title: "Tries", num: true, sort: (one) => one.tries, cell: (one) => one.tries },
  { id: "out", title: "Sent back", num: true, sort: (one) => one.bytes_out, cell: (one) => bytes(one.bytes_out) },
];

/** Status and fault, in words and colour. */
export function Outcome({ of }) {
  const kind = of.fault ? "bad" : of.status >= 500 ? "bad" : of.status >= 400 ? "busy" : "good";
  return html`<span class=${`state ${kind}`}>${of.status || "cut"}${of.fault ? ` ${of.fault}` : ""}</span>`;
}

export default function Requests() {
  const { query } = useRoute();
  const asked = Object.fromEntries(NAMES.map((name) => [name, query.get(name)]).filter(([, value]) => value));
  const key = JSON.stringify(asked);
  const [paused, pause] = useState(false);
  const [older, setOlder] = useState({ key, items: [], next: null, error: null });
  const { data, error, loading, again } = useData(
    (signal) => get("requests", { ...asked, limit: LIMIT }, signal), [key, paused], paused ? 0 : EVERY_MS);
  const [heard, hear] = useState(null);
  useEffect(() => {
    if (data) hear(new Date());
  }, [data]);
  const more = older.key === key ? older : { items: [], next: null, error: null };
  const rows = data ? merged(data.items, more.items) : [];
  const next = more.items.length ? more.next : data?.next;

  async function further() {
    try {
      const page = await get("requests", { ...asked, limit: LIMIT, cursor: next });
      pause(true);
      const there = more.items.length ? more.items : data.items;
      setOlder({ key, items: [...there, ...page.items], next: page.next, error: null });
    } catch (problem) {
      setOlder({ ...more, key, error: problem });
    }
  }

  return html`<${Page} title="Requests" aside=${html`<${Stream} state=${error ? "waiting" : data ? "open" : ""}
      since=${heard} paused=${paused} />
      <button type="button" class="small" onClick=${() => pause(!paused)}>${paused ? "Go on" : "Pause"}</button>`}>
    <p class="lead">Every fault is counted. Kept in full are requests that failed and slow ones, of a storm of them a part;
      good ones are in the access log.</p>
    <${Filters} fields=${FIELDS} />
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="requests" />` : null}
    ${data && html`<p class="sum">${summary(rows)}</p>
      <${Table} columns=${COLUMNS} rows=${rows} label="Requests" href=${(one) => href(["requests", one.id])}
        empty=${Object.keys(asked).length
          ? "No kept request matches." : "No request is kept yet: none failed, and none was slow."} />`}
    <${Problem} error=${more.error} />
    ${next ? html`<p><button type="button" onClick=${further}>Older</button></p>` : null}
  </${Page}>`;
}

function merged(newest, older) {
  const seen = new Set(newest.map((one) => one.id));
  return [...newest, ...older.filter((one) => !seen.has(one.id))];
}

function summary(rows) {
  if (!rows.length) return "";
  const faults = {};
  for (const row of rows) {
    const name = row.fault || (row.status >= 400 ? `${row.status}` : "answered");
    faults[name] = (faults[name] || 0) + 1;
  }
  return `${rows.length.toLocaleString("en")} shown: ${counts(faults)}`;
}
