// Charts of metrics: asked for as one, drawn with the same axis, with what happened meanwhile as marks.
import { html, useMemo } from "./core.js";
import { get } from "./api.js";
import { Chart, Heatmap } from "./chart.js";
import { Loading, Problem, useData } from "./parts.js";

/** Kinds of events worth a mark on a chart; the first words that match decide. */
const MARKS = [
  [/exit|killed|failed|died|oom|incident-opened|incident$|lost/, "bad"],
  [/deploy|incident|recycl|restart|scal|eject|admit|reload|stopped|held|released|upgrade|heal/, ""],
];

/** Events of a span as marks of charts: `app` and `instance` may be "". */
export function useMarks(span, app, instance) {
  const ask = (signal) => get("events", { app, instance, since: span.from, limit: 1000 }, signal);
  const { data } = useData(ask, [app, instance, span.key], span.every);
  return useMemo(() => (data?.items || []).flatMap(({ time, kind, words }) => {
    const rule = MARKS.find(([pattern]) => pattern.test(kind));
    return rule ? [{ time: Date.parse(time) / 1000, words, kind: rule[1] }] : [];
  }), [data]);
}

/**
 * One chart. `asks`: questions to metrics/query (`{name, stat, instance, …}`), all of whose series it draws; `named`
 * gives a series its words; `colours`: words to a variable of style.css. `marks`, `stacked`, `limit` and `height` as
 * the chart has them.
 */
export function Series({ title, aside, asks, named = nameOf, colours = {}, span, unit, ...shown }) {
  const ask = (signal) => Promise.all(asks.map((one) => get("metrics/query", { ...span.asked, ...one }, signal)));
  const { data, error, again } = useData(ask, [JSON.stringify(asks), span.key], span.every);
  const series = useMemo(() => (data || []).flatMap((one) => one.series).map((one) => {
    const label = named(one);
    return { label, points: one.points, colour: colours[label], unit: one.unit };
  }).sort((one, other) => isNow(other) - isNow(one)), [data]); // those of the past behind those of now
  const axis = axisOf(data?.[0], span);
  return html`<section><h2>${title}${aside && html` ${aside}`}</h2>
    <${Problem} error=${error} retry=${again} />
    ${!data && !error && html`<${Loading} />`}
    ${data && (series.length ? html`<${Chart} ...${shown} series=${series} unit=${unit ?? series[0].unit} label=${title}
      from=${axis[0]} to=${axis[1]} />`
    : html`<p class="empty">Nothing was recorded in this span.</p>`)}
  </section>`;
}

/** The heatmap of a histogram; of several series it shows all that they counted. */
export function HeatmapOf({ title, ask: question, span }) {
  const ask = (signal) => get("metrics/query", { ...span.asked, ...question, stat: "heatmap" }, signal);
  const { data, error, again } = useData(ask, [JSON.stringify(question), span.key], span.every);
  const points = useMemo(() => together(data?.series || []), [data]);
  const axis = axisOf(data, span);
  return html`<section><h2>${title}</h2><${Problem} error=${error} retry=${again} />
    ${!data && !error && html`<${Loading} />`}
    ${data && html`<${Heatmap} points=${points} from=${axis[0]} to=${axis[1]} label=${title} />`}
  </section>`;
}

/** Whether a series has a value among its last points, as those that ended do not: 1 or 0. */
const isNow = ({ points }) => Number(points.slice(-3).some(([, value]) => value !== null));

function together(series) {
  const found = new Map();
  for (const [time, buckets] of series.flatMap((one) => one.points)) {
    found.set(time, [...(found.get(time) || []), ...(buckets || [])]);
  }
  return [...found].sort(([one], [other]) => one - other);
}

const UNIX = (time) => (typeof time === "number" ? time : Date.parse(time) / 1000);

/** The axis is the span that was answered, so that gaps at its ends are seen. */
function axisOf(answer, span) {
  return answer?.from && answer?.to ? [UNIX(answer.from), UNIX(answer.to)] : [span.begin, span.end];
}

function nameOf({ name, stat, app, instance }) {
  const statWords = ["rate", "mean", "last", ""].includes(stat || "") ? "" : ` ${stat}`;
  return [app, instance, `${name}${statWords}`].filter(Boolean).join(" ");
}
