// What has no way back is asked for twice: the button, then what it will do and the button that does it.
import { html, useEffect, useRef, useState } from "./core.js";
import { Problem } from "./parts.js";

/**
 * `label`: of the first button; `what`: of whom, for its name; `words`: what will happen; `sure`: of the second one;
 * `run()`: does it, and may throw ApiError.
 */
export function Confirm({ label, what = "", words, sure = label, run, small = true }) {
  const [asked, ask] = useState(false);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const here = useRef(null); // the button that is there now
  const before = useRef(false);
  useEffect(() => {
    if (asked !== before.current) here.current?.focus(); // the keyboard stays with it
    before.current = asked;
  }, [asked]);
  const leave = () => {
    ask(false);
    setError(null);
  };
  async function doIt() {
    setBusy(true);
    setError(null);
    try {
      await run();
      ask(false);
    } catch (failed) {
      setError(failed);
    } finally {
      setBusy(false);
    }
  }
  const size = small ? "small" : "";
  if (!asked) {
    return html`<button type="button" ref=${here} class=${size} onClick=${() => ask(true)}
      aria-label=${what && `${label} ${what}`}>${label}</button>`;
  }
  return html`<span class="confirm">${words && html`<span>${words} </span>`}
    <button type="button" ref=${here} class="${size} danger" disabled=${busy} onClick=${doIt}>${sure}</button>
    ${" "}<button type="button" class=${size} onClick=${leave}>No</button><${Problem} error=${error} /></span>`;
}
