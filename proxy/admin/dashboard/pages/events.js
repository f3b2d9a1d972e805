// Everything that happened, newest first and as it comes: lifecycle, acts, rules, config, deploys, alerts, logins.
import { html, useEffect, useMemo, useRef, useState } from "../lib/core.js";
import { follow, get } from "../lib/api.js";
import { useRoute } from "../lib/route.js";
import { Filters, Loading, Page, Problem, useData } from "../lib/parts.js";
import { Stream, When, Where, Words } from "./blocks.js";

const NAMES = ["app", "instance", "kind", "since"];
const LIMIT = 200;
const MOST = 1000; // rows in the page
const FLUSH_MS = 250;

const FIELDS = [
  { name: "app", label: "App" },
  { name: "instance", label: "Instance", placeholder: "web-7" },
  { name: "kind", label: "Kind", placeholder: "exited" },
  { name: "since", label: "Since", placeholder: "1h" },
];

export default function Events() {
  const { query } = useRoute();
  const asked = Object.fromEntries(NAMES.map((name) => [name, query.get(name)]).filter(([, value]) => value));
  const key = JSON.stringify(asked);
  return html`<${Page} title="Events">
    <${Filters} fields=${FIELDS} />
    <${List} key=${key} asked=${asked} />
  </${Page}>`;
}

function List({ asked }) {
  const { data, error, loading, again } = useData((signal) => get("events", { ...asked, limit: LIMIT }, signal), []);
  const [older, setOlder] = useState({ items: [], next: null, error: null });
  const news = useNews(asked, again);
  const rows = useMemo(() => merged(news.items, data?.items || [], older.items), [news.items, data, older.items]);
  const next = older.items.length ? older.next : data?.next;

  async function further() {
    try {
      const page = await get("events", { ...asked, limit: LIMIT, cursor: next });
      setOlder({ items: [...older.items, ...page.items], next: page.next, error: null });
    } catch (problem) {
      setOlder({ ...older, error: problem });
    }
  }

  return html`<p class="sum"><${Stream} state=${news.state} since=${news.since} />
      ${news.dropped ? html` <span class="lost">${news.dropped.toLocaleString("en")} at most were lost on the way</span>`
        : null}
    </p>
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="events" />` : null}
    ${data && !rows.length ? html`<p class="empty">${Object.keys(asked).length
      ? "No event matches." : "Nothing happened yet."}</p>` : null}
    <ol class="events">${rows.map((one) => html`<${Row} key=${one.id} one=${one} />`)}</ol>
    <${Problem} error=${older.error} />
    ${next && rows.length < MOST ? html`<p><button type="button" onClick=${further}>Older</button></p>` : null}`;
}

/** What comes while the page is open, newest first, and what is known of the stream. */
function useNews(asked, again) {
  const [state, set] = useState({ items: [], state: "", since: null, dropped: 0 });
  const waiting = useRef([]);
  useEffect(() => {
    const { since: _since, ...filter } = asked;
    let timer = 0, opened = false;
    const flush = () => {
      timer = 0;
      const batch = waiting.current.reverse();
      waiting.current = [];
      set((before) => ({ ...before, items: [...batch, ...before.items].slice(0, MOST) }));
    };
    const end = follow("events", filter, {
      event: (one) => {
        waiting.current.push(one);
        if (waiting.current.length > MOST) waiting.current.shift();
        timer ||= setTimeout(flush, FLUSH_MS);
      },
      dropped: ({ dropped }) => set((before) => ({ ...before, dropped: before.dropped + dropped })),
      onState: (word) => {
        if (word === "open" && opened) again(); // what happened in between stands in the list
        opened ||= word === "open";
        set((before) => ({ ...before, state: word, since: word === before.state ? before.since : new Date() }));
      },
    });
    return () => {
      clearTimeout(timer);
      end();
    };
  }, []);
  return state;
}

function merged(...lists) {
  const seen = new Set();
  const rows = lists.flat().filter((one) => !seen.has(one.id) && seen.add(one.id));
  return rows.sort((one, other) => Number(other.id) - Number(one.id)).slice(0, MOST);
}

const said = (value) => (typeof value === "object" ? JSON.stringify(value) : value);

function Row({ one }) {
  const data = Object.entries(one.data || {}).filter(([, value]) => value !== "" && value !== null);
  return html`<li><${When} at=${one.time} /> <span class="kind">${one.kind}</span>
    <span class="where">${one.app ? html`<${Where} app=${one.app} instance=${one.instance} />` : "Triage"}</span>
    ${data.length ? html`<details><summary><${Words} text=${one.words} /></summary>
      <pre>${data.map(([name, value]) => `${name}: ${said(value)}`).join("\n")}</pre>
    </details>` : html`<span class="words"><${Words} text=${one.words} /></span>`}</li>`;
}
