// One table for all pages: keyed rows that are links, sortable where a column says how, cards on small screens.
import { html, useState } from "./core.js";

/**
 * `columns`: `{id, title, cell(row), num, sort(row), wide, hint}`; the first one holds the row's link.
 * `rowKey(row)`: a row's own name, else its `id`; `href(row)`: where it leads; `kind(row)`: a class for the row.
 */
export function Table({ columns, rows, rowKey = (row) => row.id, empty = "Nothing here.", href, kind, label }) {
  const [order, setOrder] = useState({ id: "", down: false });
  const shown = sorted(rows, columns.find((column) => column.id === order.id), order.down);
  if (!rows.length) return html`<p class="empty">${empty}</p>`;
  return html`<div class="table-box" role="region" aria-label=${label} tabindex="0"><table class="table">
    <thead><tr>${columns.map((column) => html`<${Head} key=${column.id} column=${column} order=${order}
      setOrder=${setOrder} />`)}</tr></thead>
    <tbody>${shown.map((row) => html`<tr key=${rowKey(row)} class=${kind?.(row) || ""}
      onClick=${href && ((event) => follow(event, href(row)))}>
      ${columns.map((column, at) => html`<td class=${classes(column)} data-label=${column.title}><div class="cell">
        ${at === 0 && href ? html`<a href=${href(row)}>${column.cell(row)}</a>` : column.cell(row)}</div></td>`)}
    </tr>`)}</tbody>
  </table></div>`;
}

function Head({ column, order, setOrder }) {
  const { id, title, sort, hint } = column;
  if (!sort) return html`<th scope="col" class=${classes(column)} title=${hint}>${title}</th>`;
  const here = order.id === id;
  const turn = () => setOrder(here && order.down ? { id: "", down: false } : { id, down: here });
  return html`<th scope="col" class=${classes(column)} title=${hint}
    aria-sort=${here ? (order.down ? "descending" : "ascending") : "none"}>
    <button type="button" class="sort" onClick=${turn}>${title}</button></th>`;
}

const classes = (column) => `${column.num ? "num" : ""} ${column.wide ? "wide" : ""}`.trim();

function sorted(rows, column, down) {
  if (!column) return rows;
  const known = rows.filter((row) => column.sort(row) !== null && column.sort(row) !== undefined);
  const rest = rows.filter((row) => !known.includes(row));
  known.sort((one, other) => compare(column.sort(one), column.sort(other)) * (down ? -1 : 1));
  return [...known, ...rest];
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), "en", { numeric: true });
}

/** A click anywhere in a row follows its link, but not one on a control, nor one that ends a selection of text. */
function follow(event, where) {
  if (event.defaultPrevented || event.target.closest("a, button, input, select, label, summary, dialog")) return;
  if (String(getSelection()).length) return;
  if (event.metaKey || event.ctrlKey) window.open(where, "_blank", "noopener");
  else location.hash = where;
}
