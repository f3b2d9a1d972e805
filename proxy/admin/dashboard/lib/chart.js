// Charts: lines or stacked areas over time, with marks of what happened; uPlot is loaded when the first one is drawn.
import { html, useEffect, useMemo, useRef, useState } from "./core.js";
import { clock, inUnit, stamp } from "./format.js";
import { setQuery } from "./route.js";

export { Heatmap } from "./heatmap.js";

const COLOURS = 8; // --c1 … --c8 in style.css
const DAY = 86_400;
const RECENT = 3; // points in which a value counts as the present one
const TIMES = [ // seconds between ticks that are easily read
  1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200,
  1800, 3600, 7200, 14_400, 43_200, DAY, 2 * DAY, 7 * DAY, 30 * DAY,
];
let loading = null;

function uplot() {
  loading ||= new Promise((done, failed) => {
    const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "vendor/uplot.css" });
    const script = Object.assign(document.createElement("script"), { src: "vendor/uplot.js", defer: true });
    script.onload = () => done(window.uPlot);
    script.onerror = () => {
      loading = null;
      failed(new Error("The part that draws charts could not be loaded; load the page again."));
    };
    document.head.append(sheet, script);
  });
  return loading;
}

/** A colour of style.css, as it is in the present scheme. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Turns with light and dark, so that what is drawn on a canvas can be drawn anew. */
export function useScheme() {
  const [dark, set] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => set(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  return dark;
}

/**
 * `series`: `[{label, points: [[unix_s, value | null]], colour}]`; `unit` as metrics have it; `marks`: `[{time: unix_s,
 * words, kind: "bad" | ""}]`; `from`, `to`: unix_s, the whole axis; `stacked`: one upon the other; `limit`: a line.
 * `onRange(from, to)`: what a drag over the chart selects; without it the address gets it.
 */
export function Chart(given) {
  const { series, unit, height = 170, onRange = intoAddress, marks = [], from, to, stacked, limit, label } = given;
  const box = useRef(null), plot = useRef(null), readout = useRef(null);
  const [hidden, setHidden] = useState(() => new Set());
  const [error, setError] = useState(null);
  const dark = useScheme();
  const show = useMemo(() => inUnit(unit), [unit]);
  const shown = series.filter((one) => !hidden.has(one.label));
  const times = useMemo(() => timesOf(shown), [series, hidden]);
  const values = useMemo(() => shown.map((one) => valuesAt(one.points, times)), [times]);
  const now = useRef(null);
  now.current = { times, values, marks, from, to, onRange, limit };
  const shape = JSON.stringify([shown.map((one) => one.label), unit, stacked, dark, height]);

  useEffect(() => {
    let left = false, watched = null;
    uplot().then((Plot) => {
      if (left || !box.current) return;
      const colours = shown.map((one) => colourOf(one, series));
      const made = { Plot, box: box.current, now, shown, colours, show, unit, stacked, height, readout };
      plot.current = new Plot(options(made), drawn(times, values, stacked), box.current);
      watched = new ResizeObserver(() => plot.current?.setSize({ width: box.current.clientWidth, height }));
      watched.observe(box.current);
    }, setError);
    return () => {
      left = true;
      watched?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(drawn(times, values, stacked)), [times, values, marks, from, to]);

  const toggle = (name) => setHidden((before) => {
    const next = new Set(before);
    if (!next.delete(name)) next.add(name);
    return next;
  });
  return html`<figure class="chart">
    <div ref=${box} class="chart-box" role="img" aria-label=${`${label || "Chart"}: ${summary(shown, values, show)}`}
      style=${{ minHeight: `${height}px` }}>${error && html`<p class="problem">${error.message}</p>`}</div>
    <figcaption><span class="readout" ref=${readout}></span><ul class="legend">
      ${series.map((one) => html`<li key=${one.label}><button type="button" aria-pressed=${!hidden.has(one.label)}
        onClick=${() => toggle(one.label)}><i style=${{ background: colourOf(one, series) }}></i>${one.label}
        <b>${show(lastOf(one.points))}</b></button></li>`)}
    </ul></figcaption>
  </figure>`;
}

function intoAddress(from, to) {
  setQuery({ from: Math.floor(from), to: Math.ceil(to) }, { step: true });
}

function colourOf(one, series) {
  return colour(one.colour || `--c${(series.indexOf(one) % COLOURS) + 1}`);
}

function timesOf(series) {
  if (series.length === 1) return series[0].points.map(([time]) => time);
  return [...new Set(series.flatMap((one) => one.points.map(([time]) => time)))].sort((one, other) => one - other);
}

function valuesAt(points, times) {
  const found = new Map(points);
  return times.map((time) => found.get(time)); // undefined: another series has that time; null: a gap
}

/** The value now: the newest of the last points; what ended before has none. */
function lastOf(points) {
  return points.slice(-RECENT).findLast(([, value]) => value !== null)?.[1] ?? null;
}

function summary(series, values, show) {
  const said = series.slice(0, 8).map((one, at) => {
    const known = values[at].filter((value) => value != null);
    return `${one.label} now ${show(lastOf(one.points))}, at most ${known.length ? show(Math.max(...known)) : "–"}`;
  });
  return said.join("; ") || "no values";
}

/** What uPlot is given: stacked ones are drawn as sums, the topmost first. */
function drawn(times, values, stacked) {
  if (!stacked) return [times, ...values];
  const sums = values.map((own) => [...own]);
  for (let at = 1; at < sums.length; at++) {
    sums[at] = sums[at].map((value, place) => {
      const below = sums[at - 1][place];
      return value === null && below === null ? null : (value ?? 0) + (below ?? 0);
    });
  }
  return [times, ...sums];
}

function options({ Plot, box, now, shown, colours, show, unit, stacked, height, readout }) {
  const ink = colour("--quiet"), line = colour("--line");
  const font = "11px system-ui, sans-serif";
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font };
  return {
    width: box.clientWidth || 300,
    height,
    legend: { show: false },
    cursor: { drag: { x: true, y: false }, sync: { key: "triage" }, points: { size: 5 }, y: false },
    scales: {
      x: { range: (_, low, high) => [now.current.from ?? low, now.current.to ?? high] },
      y: { range: (_, low, high) => {
        const top = Math.max(high ?? 0, now.current.limit || 0);
        return top > 0 ? [Math.min(0, low ?? 0), Plot.rangeNum(0, top, 0.08, true)[1]] : [0, 1];
      } },
    },
    axes: [
      { ...axis, values: timeWords, space: 70, size: 22, gap: 3 },
      { ...axis, values: (_, splits) => splits.map(show), space: 28, gap: 3,
        ...(unit === "seconds" && { incrs: TIMES }),
        size: (_, words) => Math.max(44, ...(words || []).map((word) => 10 + word.length * 6.2)) },
    ],
    series: [{}, ...shown.map((one, at) => ({
      label: one.label, stroke: colours[at], width: stacked ? 1 : 1.5, points: { size: 4 },
      fill: stacked && at === 0 ? colours[at] + "66" : undefined,
    }))],
    bands: stacked ? shown.slice(1).map((_, at) => ({ series: [at + 2, at + 1], fill: colours[at + 1] + "66" })) : [],
    hooks: {
      draw: [(plot) => drawMarks(plot, now.current)],
      setCursor: [(plot) => say(plot, now.current, readout.current, shown, show)],
      setSelect: [(plot) => select(plot, now.current)],
    },
  };
}

/** Times on the axis: seconds only where ticks are that near; the day where it changes. */
function timeWords(_, splits, __, ___, apart) {
  let day = "";
  return splits.map((time, at) => {
    const here = new Date(time * 1000);
    const date = here.toLocaleDateString(undefined, { month: "short", day: "numeric" });
    const changed = date !== day && (at > 0 || apart >= DAY);
    day = date;
    if (apart >= DAY || changed) return date;
    return here.toLocaleTimeString("en", {
      hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(apart < 60 && { second: "2-digit" }),
    });
  });
}

function drawMarks(plot, { marks, limit }) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const mark of marks) {
    const x = Math.round(plot.valToPos(mark.time, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = ctx.fillStyle = colour(mark.kind === "bad" ? "--bad" : "--quiet");
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.fillRect(x - 3 * devicePixelRatio, bbox.top, 6 * devicePixelRatio, 4 * devicePixelRatio);
  }
  if (limit) {
    const y = Math.round(plot.valToPos(limit, "y", true));
    ctx.strokeStyle = colour("--bad");
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
  }
  ctx.restore();
}

/** Under the cursor: its time, the values there, and what happened near it. */
function say(plot, { times, values, marks }, readout, shown, show) {
  if (!readout) return;
  const { idx, left } = plot.cursor;
  if (idx === null || idx === undefined || left < 0) return void (readout.textContent = "");
  const near = marks.filter((mark) => Math.abs(plot.valToPos(mark.time, "x") - left) < 6);
  const said = shown.map((one, at) => `${one.label} ${show(values[at][idx])}`);
  const happened = near.slice(0, 4).map((mark) => `${clock(mark.time)} ${mark.words}`);
  readout.textContent = [clock(times[idx]), ...said.slice(0, 8), ...happened].join("  ·  ");
  readout.title = stamp(times[idx]);
}

function select(plot, { onRange }) {
  const { left, width } = plot.select;
  if (width < 8) return;
  const [from, to] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
  plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  onRange(from, to);
}
