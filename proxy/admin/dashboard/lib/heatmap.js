// How long requests took, over time: a column each step, a row each span of the logarithmic scale, darker is more.
import { html, useEffect, useMemo, useRef, useState } from "./core.js";
import { colour, useScheme } from "./chart.js";
import { clock, count, seconds } from "./format.js";

const LEFT = 56, BOTTOM = 20, ROW = 6; // pixels: of the scale, of the times, of a row

/** `points`: `[[unix_s, [[low_s, high_s, count]]]]` as a query with stat=heatmap answers; `from`, `to`: unix_s. */
export function Heatmap({ points, height = 150, from, to, label = "How long requests took" }) {
  const canvas = useRef(null);
  const [width, setWidth] = useState(0);
  const [under, setUnder] = useState("");
  const dark = useScheme();
  const view = useMemo(() => layout(points, width, height, from, to), [points, width, height, from, to]);
  useEffect(() => {
    const watched = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    watched.observe(canvas.current.parentElement);
    return () => watched.disconnect();
  }, []);
  useEffect(() => {
    if (width) draw(canvas.current, view, width, height);
  }, [view, dark]);
  const look = ({ offsetX, offsetY }) => setUnder(view ? said(view, offsetX, offsetY) : "");
  return html`<figure class="chart">
    <div class="chart-box" style=${{ minHeight: `${height}px` }}>
      <canvas ref=${canvas} role="img" aria-label=${`${label}: ${view ? view.words : "no requests"}`}
        onMouseMove=${look} onMouseLeave=${() => setUnder("")}></canvas></div>
    <figcaption><span class="readout">${under || (view ? view.words : "No requests in this span.")}</span></figcaption>
  </figure>`;
}

/** Where each cell lies, and how much it holds; null: there is nothing. */
function layout(points, width, height, from, to) {
  const filled = points.filter(([, buckets]) => buckets?.length);
  if (!filled.length || !width) return null;
  const all = filled.flatMap(([, buckets]) => buckets);
  const low = Math.min(...all.map(lowOf)), high = Math.max(...all.map((bucket) => bucket[1]));
  const begin = from ?? points[0][0], end = to ?? points.at(-1)[0];
  const apart = Math.min(...points.slice(1).map(([time], at) => time - points[at][0]), end - begin || 1);
  const tall = height - BOTTOM, wide = width - LEFT;
  const rows = Math.max(4, Math.floor(tall / ROW)), scale = Math.log(high / low) || 1;
  const rowOf = (value) => (Math.log(value / low) / scale) * rows;
  let most = 0, total = 0;
  const columns = filled.map(([time, buckets]) => {
    const cells = new Float64Array(rows);
    for (const bucket of buckets) {
      total += bucket[2];
      spread(cells, rowOf(lowOf(bucket)), rowOf(bucket[1]), bucket[2]);
    }
    most = Math.max(most, ...cells);
    return { time, buckets, cells, x: LEFT + ((time - begin) / (end - begin || 1)) * wide };
  });
  const words = `${count(total)} requests, between ${seconds(low)} and ${seconds(high)}`;
  const thick = Math.max(1, (apart / (end - begin || 1)) * wide);
  return { columns, rows, tall, wide, most, low, scale, begin, end, words, thick };
}

/** A bucket that begins at 0 has no place on a logarithmic scale: half its end stands for it. */
const lowOf = ([low, high]) => (low > 0 ? low : high / 2);

function spread(cells, from, to, amount) {
  const first = Math.max(0, Math.min(cells.length - 1, Math.floor(from)));
  const last = Math.max(first, Math.min(cells.length - 1, Math.ceil(to) - 1));
  for (let row = first; row <= last; row++) cells[row] += amount / (last - first + 1);
}

function draw(canvas, view, width, height) {
  const ratio = devicePixelRatio || 1;
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  ctx.font = "11px system-ui, sans-serif";
  if (!view) return;
  const rowTall = view.tall / view.rows;
  ctx.fillStyle = colour("--accent");
  for (const { x, cells } of view.columns) {
    const left = Math.floor(x), right = Math.max(left + 1, Math.floor(x + view.thick)); // no seams between columns
    cells.forEach((amount, row) => {
      if (!amount) return;
      ctx.globalAlpha = 0.12 + 0.88 * Math.sqrt(amount / view.most);
      ctx.fillRect(left, view.tall - (row + 1) * rowTall, right - left, Math.ceil(rowTall));
    });
  }
  ctx.globalAlpha = 1;
  scales(ctx, view, height);
}

function scales(ctx, view, height) {
  ctx.fillStyle = colour("--quiet");
  ctx.textAlign = "right";
  for (let power = Math.ceil(Math.log10(view.low)); power < 5; power++) {
    const y = view.tall * (1 - Math.log(10 ** power / view.low) / view.scale);
    if (y < 8) break;
    ctx.fillText(seconds(10 ** power), LEFT - 8, Math.min(view.tall, y + 4));
  }
  const apart = Math.max(1, Math.round(view.wide / 110));
  for (let at = 0; at <= apart; at++) {
    const time = view.begin + ((view.end - view.begin) * at) / apart;
    ctx.textAlign = at === 0 ? "left" : at === apart ? "right" : "center";
    ctx.fillText(clock(time).slice(-8, -3), LEFT + (view.wide * at) / apart, height - 5);
  }
}

function said(view, x, y) {
  const column = view.columns.find((one) => x >= one.x && x < one.x + view.thick);
  if (!column || y > view.tall) return "";
  const value = view.low * Math.exp((1 - y / view.tall) * view.scale);
  const slack = Math.exp(view.scale / view.rows);
  const near = column.buckets.filter((bucket) => lowOf(bucket) <= value * slack && bucket[1] >= value / slack);
  if (!near.length) return clock(column.time);
  const sum = near.reduce((before, bucket) => before + bucket[2], 0);
  return `${clock(column.time)}  ·  ${seconds(near[0][0])} to ${seconds(near.at(-1)[1])}: ${count(sum)} requests`;
}
