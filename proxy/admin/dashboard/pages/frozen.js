// What was frozen when an incident opened or an instance ended: its last 15 minutes, a value each second.
import { html, useMemo, useState } from "../lib/core.js";
import { get, pathOf } from "../lib/api.js";
import { Chart } from "../lib/chart.js";
import { Loading, Problem, useData } from "../lib/parts.js";

const SHOWN = [ // column, title, unit, of the app as a whole
  ["requests", "Requests a second", "", true], ["faults", "Faults a second", "", true],
  ["p99_ms", "99 of 100 were answered within", "ms", true], ["inflight", "In flight", "", false],
  ["queue", "Waiting in the queue", "", true], ["memory", "Memory", "bytes", false], ["cpu", "CPU", "cores", false],
];
const WRITTEN_MS = 2000; // it is written within a second or two

export function Frozen({ id, began }) {
  const [there, setThere] = useState(false);
  const { data, error, loading, again } = useData(async (signal) => {
    const found = await get(`frozen/${pathOf(id)}`, {}, signal);
    setThere(true);
    return found;
  }, [id], there ? 0 : WRITTEN_MS);
  const charts = useMemo(() => (data ? chartsOf(data) : []), [data]);
  if (!data) return error ? html`<${Problem} error=${error} retry=${again} />` : loading && html`<${Loading} />`;
  if (!charts.length) return html`<p class="empty">Nothing was frozen: there was no figure yet.</p>`;
  const marks = began ? [{ time: new Date(began).getTime() / 1000, words: "it began", kind: "bad" }] : [];
  return html`<div class="charts">${charts.map(({ name, title, unit, series }) => html`<section key=${name}>
    <h3>${title}</h3>
    <${Chart} series=${series} unit=${unit} marks=${marks} height=${140} label=${title} onRange=${stay} /></section>`)}</div>`;
}

const stay = () => {}; // what was frozen has one span: a drag leads nowhere

/** One chart a column: a line of the whole app where that is what counts, else one of each instance. */
function chartsOf({ series }) {
  return SHOWN.flatMap(([name, title, unit, whole]) => {
    const having = series.filter((one) => one.columns.includes(name));
    const chosen = having.filter((one) => (whole ? !one.instance : one.instance));
    const lines = (chosen.length ? chosen : having).map((one) => lineOf(one, name)).filter(known);
    return lines.length ? [{ name, title, unit, series: lines }] : [];
  });
}

function lineOf({ app, instance, columns, points }, name) {
  const at = columns.indexOf(name);
  return { label: instance || app || "gateway", points: points.map((row) => [row[0], number(row[at])]) };
}

const known = ({ points }) => points.some(([, value]) => value !== null);

/** Faults are counted by name. */
const number = (value) => (value !== null && typeof value === "object"
  ? Object.values(value).reduce((sum, one) => sum + one, 0) : value ?? null);
