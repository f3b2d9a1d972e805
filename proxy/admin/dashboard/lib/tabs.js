// Parts of a page of which one is shown: links, since which one it is stands in the address.
import { html } from "./core.js";
import { href, useRoute } from "./route.js";

/** `tabs`: `[[value of show, words]]`, the first one is shown where the address says nothing. */
export function Tabs({ tabs, label }) {
  const { path, query } = useRoute();
  const here = shownOf(query, tabs);
  return html`<nav class="tabs" aria-label=${label}><ul>${tabs.map(([value, words], at) => {
    const to = new URLSearchParams(query);
    for (const name of ["pid", "look"]) to.delete(name); // of one tab alone
    if (at) to.set("show", value);
    else to.delete("show");
    return html`<li key=${value}><a href=${href(path, to)} aria-current=${value === here ? "page" : null}>${words}</a></li>`;
  })}</ul></nav>`;
}

/** Which one is shown. */
export function shownOf(query, tabs) {
  const asked = query.get("show");
  return tabs.some(([value]) => value === asked) ? asked : tabs[0][0];
}
