// Access: who I am and what I may, the tokens there are, and who did or tried what.
import { html, useRef, useState } from "../lib/core.js";
import { get, pathOf, post, remove } from "../lib/api.js";
import { Confirm } from "../lib/confirm.js";
import { visible } from "../lib/format.js";
import { setQuery, useRoute } from "../lib/route.js";
import { Choice, Filters, Loading, Page, Problem, State, Table, useData } from "../lib/parts.js";
import { ROLES, may, useWho } from "../lib/who.js";
import { Copy, Facts, When } from "./blocks.js";

const EVERY_MS = 5000;
const MOST_ROWS = 2000;
const MAY = {
  viewer: "may look at everything, values masked",
  operator: "may also act on apps and instances",
  admin: "may also make tokens, upgrade, and use the console where the config has it",
};

export default function Access() {
  const who = useWho();
  if (!who) return html`<${Page} title="Access"><${Loading} /><//>`;
  return html`<${Page} title="Access">
    <${Facts} of=${[
      ["You are", visible(who.name)], ["Your role", html`<b>${who.role}</b>: ${MAY[who.role]}`], ["You came by", who.way],
      ["Until", who.expires ? html`<${When} at=${who.expires} />` : "you log out, or 12 h after you logged in"],
      ["Console", who.console ? "on" : "off"],
    ]} />
    ${may(who, "admin") ? html`<${Tokens} />` : html`<section><h2>Tokens</h2>
      <p class="empty">Tokens are made and revoked by the role admin; yours is ${who.role}.</p></section>`}
    <${Audit} />
  <//>`;
}

// --- tokens --------------------------------------------------------------------------------------------

const LIFETIMES = [
  ["1h", "an hour"], ["1d", "a day"], ["7d", "a week"], ["30d", "30 days"], ["90d", "90 days"], ["365d", "a year"],
  ["", "ever, until it is revoked"],
];

function Tokens() {
  const { data, error, loading, again } = useData((signal) => get("tokens", {}, signal), [], EVERY_MS);
  return html`<section><h2>Tokens</h2>
    <${Make} then=${again} />
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="tokens" />` : null}
    ${data && html`<${Table} columns=${columns(again)} rows=${data.items} label="Tokens"
      empty="None was made: only the first one, in admin.token of the data folder, is there." />`}
  </section>`;
}

const columns = (again) => [
  { id: "name", title: "Token", cell: (one) => html`<b>${visible(one.name)}</b>` },
  { id: "role", title: "Role", cell: (one) => one.role, sort: (one) => ROLES.indexOf(one.role) },
  { id: "made", title: "Made", cell: (one) => html`<${When} at=${one.made} since />`, sort: (one) => one.made },
  { id: "by", title: "By", cell: (one) => visible(one.by) },
  { id: "expires", title: "Expires", sort: (one) => one.expires || "9", cell: (one) => (one.expired
    ? html`<${State} value="expired" />` : one.expires ? html`<${When} at=${one.expires} />` : "never") },
  { id: "used", title: "Last used", sort: (one) => one.last_used || "",
    cell: (one) => (one.last_used ? html`<${When} at=${one.last_used} since />` : "never") },
  { id: "from", title: "From", cell: (one) => one.last_from },
  { id: "end", title: "", cell: (one) => html`<${Revoke} one=${one} then=${again} />` },
];

function Revoke({ one, then }) {
  if (one.id === "admin.token") return null; // it is a file, and made anew when it is gone
  return html`<${Confirm} label="Revoke" what=${visible(one.name)} sure="Revoke it" words="What uses it is cut off at once."
    run=${() => remove(`tokens/${pathOf(one.id)}`).then(then)} />`;
}

function Make({ then }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState("viewer");
  const [lasts, setLasts] = useState("30d");
  const [made, setMade] = useState(null);
  const [error, setError] = useState(null);
  async function make(event) {
    event.preventDefault();
    setError(null);
    try {
      setMade(await post("tokens", { name: name.trim(), role, ...(lasts && { for: lasts }) }));
      setName("");
      then();
    } catch (failed) {
      setError(failed);
    }
  }
  return html`<form class="filters" onSubmit=${make} aria-label="Make a token">
      <label><span>Name</span><input name="name" value=${name} required maxlength="60" autocomplete="off" spellcheck=${false}
        placeholder="ci" onInput=${(event) => setName(event.target.value)} /></label>
      <${Choice} label="Role" name="role" value=${role} options=${ROLES} set=${setRole} />
      <${Choice} label="Good for" name="for" value=${lasts} options=${LIFETIMES} set=${setLasts} />
      <button class="primary">Make a token</button>
      <span class="hint">${role} ${MAY[role]}.</span>
    </form>
    <${Problem} error=${error} />
    ${made && html`<${Once} made=${made} leave=${() => setMade(null)} />`}`;
}

/** The token itself: nobody can show it again. */
function Once({ made, leave }) {
  const code = useRef(null);
  return html`<div class="note once" role="status">
    <p><b>${visible(made.name)}</b>, ${made.role}. This is the only time that it is shown: copy it now.</p>
    <p><code ref=${code}>${made.token}</code> <${Copy} text=${made.token} from=${code} /></p>
    <p><button type="button" onClick=${leave}>I have it</button></p></div>`;
}

// --- the audit trail -----------------------------------------------------------------------------------

const FIELDS = [
  { name: "who", label: "Who", placeholder: "ci" },
  { name: "what", label: "What", placeholder: "recycle", wide: true },
  { name: "outcome", label: "Outcome", type: "select", options: [["", "all"], "done", "refused", "failed", "denied"] },
  { name: "since", label: "Since", placeholder: "24h" },
];

const AUDIT = [
  { id: "time", title: "Time", cell: (one) => html`<${When} at=${one.time} />` },
  { id: "who", title: "Who", cell: ({ data }) => (data.who ? visible(data.who) : html`<span class="quiet">nobody known</span>`) },
  { id: "role", title: "Role", cell: ({ data }) => data.role },
  { id: "way", title: "By", wide: true, cell: ({ data }) => data.way },
  { id: "what", title: "What", wide: true, cell: ({ data, words }) => (data.path
    ? html`<code>${data.method} ${visible(data.path.replace(/^\/api\/v1\//, ""))}</code>` : words) },
  { id: "outcome", title: "Outcome", cell: ({ data }) => html`<${State} value=${data.outcome} kind=${KINDS[data.outcome]} />
    ${data.status ? html` <span class="quiet">${data.status}</span>` : null}` },
  { id: "reason", title: "Reason", wide: true, cell: ({ data }) => data.reason },
];
const KINDS = { done: "good", refused: "busy", failed: "bad", denied: "bad", begun: "busy" };

function Audit() {
  const { query } = useRoute();
  const since = query.get("since") || "";
  const { data, error, loading, again } = useData(
    (signal) => get("events", { kind: "audit", since, limit: 500 }, signal), [since], EVERY_MS);
  const [older, setOlder] = useState({ items: [], next: undefined, error: null });
  const next = older.next === undefined ? data?.next : older.next;
  const seen = new Set();
  const all = [...(data?.items || []), ...older.items].filter((one) => !seen.has(one.id) && seen.add(one.id));
  const rows = all.filter((one) => matches(one, query));
  async function further() {
    try {
      const page = await get("events", { kind: "audit", since, limit: 500, cursor: next });
      setOlder({ items: [...older.items, ...page.items], next: page.next, error: null });
    } catch (failed) {
      setOlder({ ...older, error: failed });
    }
  }
  const filtered = FIELDS.some(({ name }) => query.get(name));
  return html`<section><h2>Who did what</h2>
    <p class="quiet">Every act and each denied try; many tries from one place are counted together.</p>
    <${Filters} fields=${FIELDS}>${filtered && html`<button type="button" class="small"
      onClick=${() => setQuery(Object.fromEntries(FIELDS.map(({ name }) => [name, null])))}>Show all</button>`}<//>
    <${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="the trail" />` : null}
    ${data && html`<${Table} columns=${AUDIT} rows=${rows} label="Audit trail"
      empty=${filtered ? "Nothing among those that were loaded matches." : "Nobody did or tried anything yet."} />`}
    <${Problem} error=${older.error} />
    ${next && all.length < MOST_ROWS && html`<p><button type="button" onClick=${further}>Older</button></p>`}
  </section>`;
}

function matches({ data, words }, query) {
  const has = (text, name) => !query.get(name) || String(text || "").toLowerCase().includes(query.get(name).toLowerCase());
  return has(`${data.who} ${data.way} ${data.role}`, "who") && has(`${data.method} ${data.path} ${data.reason} ${words}`, "what")
    && (!query.get("outcome") || data.outcome === query.get("outcome"));
}
