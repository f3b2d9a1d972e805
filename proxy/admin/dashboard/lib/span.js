// The span of time that charts show: in the address as from (and to), either how far back or Unix seconds.
import { html } from "./core.js";
import { clock } from "./format.js";
import { setQuery } from "./route.js";

const UNITS = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Those one can choose; longer ones are kept in coarser steps. */
const SPANS = ["15m", "1h", "6h", "1d", "7d", "90d"];

/** Of an address: `{from, to, asked, key, begin, end (Unix s), every (ms)}`; a fixed span is not asked for again. */
export function spanOf(query, otherwise = "15m") {
  const from = query.get("from") || otherwise, to = query.get("to") || "";
  const back = from.match(/^(\d+)([smhd])$/);
  const now = Date.now() / 1000;
  const begin = back ? now - back[1] * UNITS[back[2]] : Number(from) || Date.parse(from) / 1000 || now - 900;
  const end = to ? Number(to) || Date.parse(to) / 1000 || now : now;
  const length = Math.max(1, end - begin);
  const every = to ? 0 : Math.min(60_000, Math.max(5_000, (length / 300) * 1000));
  return { from, to, begin, end, every, key: `${from} ${to}`, asked: { from, to } };
}

/** Buttons for the usual spans; a span that was dragged is said, and can be left. */
export function SpanChooser({ span }) {
  const fixed = !SPANS.includes(span.from) || span.to;
  const choose = (from) => setQuery({ from, to: null }, { step: true });
  return html`<div class="chips" role="group" aria-label="Span of time">
    ${SPANS.map((one) => html`<button type="button" class="chip" key=${one}
      aria-pressed=${span.from === one && !span.to} onClick=${() => choose(one)}>${one}</button>`)}
    ${fixed && html`<span class="quiet">${clock(span.begin)} to ${span.to ? clock(span.end) : "now"}</span>`}
  </div>`;
}
