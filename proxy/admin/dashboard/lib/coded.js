// Words of the API, in which what stands in backquotes is a key or a command.
import { html } from "./core.js";

/** Text in which `this` is code. */
export function Coded({ text = "" }) {
  return text.split("`").map((part, at) => (at % 2 ? html`<code>${part}</code>` : part));
}
