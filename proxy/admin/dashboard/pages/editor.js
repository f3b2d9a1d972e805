// One small text file: seen, changed, and saved only when it is still the one that was read.
import { html, useEffect, useState } from "../lib/core.js";
import { addressOf, nameOf, read, tagOf, write } from "../lib/files.js";
import { bytes, visible } from "../lib/format.js";
import { Loading, Problem } from "../lib/parts.js";

/** Bytes of a file that is opened in the page; a larger one is downloaded. */
export const LARGEST = 512 * 1024;

export function Editor({ place, leave }) {
  const [file, set] = useState(null); // {text, ends, tag, size} as it was read, or {problem, size}
  const [text, setText] = useState("");
  const [error, setError] = useState(null);
  const [said, say] = useState("");
  const [busy, setBusy] = useState(false);
  const changed = file && text !== file.text;

  async function load() {
    setError(null);
    set(null);
    try {
      const { bytes: found, tag } = await read(place);
      const words = textOf(found);
      set({ ...words, tag, size: found.length });
      setText(words.text ?? "");
    } catch (failed) {
      setError(failed);
    }
  }
  useEffect(() => void load(), [place]);
  useEffect(() => {
    if (!changed) return undefined;
    const ask = (event) => event.preventDefault();
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  }, [changed]);

  async function save(tag) {
    setBusy(true);
    setError(null);
    try {
      const content = new TextEncoder().encode(text.replaceAll("\n", file.ends));
      const made = await write(place, content, { tag });
      set({ ...file, text, tag: made || await tagOf(place), size: content.length });
      say("Saved.");
    } catch (failed) {
      say("");
      setError(failed);
    } finally {
      setBusy(false);
    }
  }
  const conflict = error?.status === 412;
  const over = async () => save(await tagOf(place));
  const typed = (event) => {
    setText(event.target.value);
    say("");
  };
  const keys = (event) => {
    if (event.key !== "s" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    if (changed && !busy) save(file.tag);
  };
  if (!file) {
    return error ? html`<${Problem} error=${error} retry=${load} /><${Leave} leave=${leave} place=${place} />`
      : html`<${Loading} what=${visible(nameOf(place))} />`;
  }
  if (file.problem) {
    return html`<p class="empty">${file.problem}: ${bytes(file.size)} that can be downloaded.</p>
      <${Leave} leave=${leave} place=${place} />`;
  }
  return html`<textarea class="editor" value=${text} aria-label=${visible(nameOf(place))} spellcheck=${false} autocomplete="off" wrap="off"
      onInput=${typed} onKeyDown=${keys}></textarea>
    ${conflict ? html`<div class="problem" role="alert"><strong>It was changed by someone else since it was read here.</strong>
        ${" "}<button type="button" class="small" onClick=${load}>Read it again, and lose what is typed here</button>
        ${" "}<button type="button" class="small danger" onClick=${over}>Overwrite it with this</button></div>`
    : html`<${Problem} error=${error} />`}
    <p class="acts"><button type="button" class="primary" disabled=${!changed || busy} onClick=${() => save(file.tag)}>Save</button>
      ${changed && html`<button type="button" onClick=${() => setText(file.text)}>Undo all</button>`}
      <${Leave} leave=${leave} place=${place} />
      <span class="quiet" role="status">${said || (changed ? "Not saved yet." : bytes(file.size))}</span></p>`;
}

function Leave({ leave, place }) {
  return html`<button type="button" onClick=${leave}>Back to the folder</button>
    ${" "}<a class="button" href=${addressOf(place)} download=${nameOf(place)}>Download</a>`;
}

/** `{text, ends}`, whose lines end in \n here and in `ends` on disk; or `{problem}`: it could not be saved without harm. */
function textOf(found) {
  try {
    if (found.includes(0)) throw new TypeError("NUL");
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(found);
    if (!text.includes("\r")) return { text, ends: "\n" };
    const lines = text.replaceAll("\r\n", "\n");
    if (!/\r/.test(lines) && lines.replaceAll("\n", "\r\n") === text) return { text: lines, ends: "\r\n" };
    return { problem: "Its lines end in more than one way" };
  } catch {
    return { problem: "It is not text" };
  }
}
