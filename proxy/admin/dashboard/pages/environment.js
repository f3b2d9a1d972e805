// An environment as the API has it: figures first, then each part as a table. Values are masked before they come here.
import { html } from "../lib/core.js";
import { bytes, count, seconds, visible } from "../lib/format.js";
import { Filters, Loading, Problem, useData } from "../lib/parts.js";
import { useRoute } from "../lib/route.js";
import { Facts, Pairs, When } from "./blocks.js";

const FIELDS = [{ name: "find", label: "Find", placeholder: "PATH" }];

/** `ask(signal)` answers the object; `of` is what asks anew when it changes. */
export function Environment({ ask, of }) {
  const { data, error, loading, again } = useData(ask, [of]);
  const find = (useRoute().query.get("find") || "").toLowerCase();
  return html`<${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="the environment" />` : null}
    ${data && html`<${Filters} fields=${FIELDS}><button type="button" class="small" onClick=${again}>Read again</button><//>
      <${Facts} of=${Object.entries(data).filter(([, value]) => plain(value)).map(([name, value]) => [words(name), figure(name, value)])} />
      ${Object.entries(data).filter(([, value]) => !plain(value)).map(([name, value]) => html`<${Part} key=${name} name=${name}
        value=${value} find=${find} />`)}`}`;
}

const plain = (value) => value === null || typeof value !== "object" || (Array.isArray(value) && value.every(plain));
const NAMES = {
  id: "Name", cwd: "Folder", exe: "Program", pid: "pid", cpus: "CPUs", usable_cpus: "CPUs it may use", cpu: "CPU", data_dir: "Data folder",
};

/** A name of the API as a person reads it. */
function words(name) {
  if (name.includes(".")) return name;
  const text = name.replace(/_(s|ms)$/, "").replaceAll("_", " ");
  return NAMES[name] || text[0].toUpperCase() + text.slice(1);
}

/** A value with the unit that its name says. */
function figure(name, value) {
  if (Array.isArray(value)) return value.length ? value.map((one) => figure("", one)).join(", ") : null;
  if (value === null || value === "") return null;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") {
    if (/memory|size|swap|bytes/.test(name) && value > 4096) return bytes(value);
    return /_s$/.test(name) ? seconds(value) : String(Math.round(value * 100) / 100);
  }
  if (/^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(value)) return html`<${When} at=${value} since />`;
  return visible(value);
}

/** One part: its names and values, those of parts within it by their whole name. */
function Part({ name, value, find }) {
  const all = flat(value);
  const rows = all.filter(([key, one]) => `${name} ${key} ${one}`.toLowerCase().includes(find));
  if (find && !rows.length) return null;
  const table = html`<${Pairs} of=${Object.fromEntries(rows)} label=${words(name)} empty="Nothing." />`;
  return html`<details class="part" open=${Boolean(find) || all.length <= 200}><summary><h2>${words(name)}</h2>
    ${" "}<span class="quiet">${count(rows.length)}</span></summary>${table}</details>`;
}

function flat(value, before = "") {
  return Object.entries(value).flatMap(([key, one]) => {
    const own = Array.isArray(value) && one ? [one.name ?? one.path ?? key, one.pid].filter(Boolean).join(" ") : key;
    const name = before ? `${before}.${own}` : own;
    if (!plain(one)) return flat(one, name);
    return [[name, Array.isArray(one) ? one.map((each) => (each === null || each === -1 ? "no limit" : each)).join(", ") : one]];
  });
}
