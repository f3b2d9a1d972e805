// Files below the roots that the config names: look, fetch, bring, change, take away. Nothing is overwritten unseen.
import { html, useEffect, useRef, useState } from "../lib/core.js";
import { Confirm } from "../lib/confirm.js";
import { addressOf, list, makeFolder, nameOf, placeIn, tagOf, takeAway, unpack, write } from "../lib/files.js";
import { bytes, percent, visible } from "../lib/format.js";
import { href, setQuery, useRoute } from "../lib/route.js";
import { Loading, Problem, Table, useData } from "../lib/parts.js";
import { Editor, LARGEST } from "./editor.js";
import { When } from "./blocks.js";

export function Files() {
  const at = placeOf(useRoute().query);
  const [folder, file] = at.endsWith("/") || !at ? [at, ""] : [at.replace(/[^/]*$/, ""), at];
  return html`<${Trail} at=${at} />
    ${file ? html`<${Editor} key=${file} place=${file} leave=${() => setQuery({ at: folder }, { step: true })} />`
    : html`<${Folder} key=${folder} at=${folder} />`}`;
}

const placeOf = (query) => (query.get("at") || "").replace(/^\/+/, "");
const to = (at) => href("console", { at });

/** The way there, each step a link. */
function Trail({ at }) {
  const names = at.split("/").filter(Boolean);
  return html`<nav class="trail" aria-label="Folder"><a href=${to("")}>Roots</a>${names.map((name, depth) => {
    const last = depth === names.length - 1;
    const place = `${names.slice(0, depth + 1).join("/")}${last && !at.endsWith("/") ? "" : "/"}`;
    return html` / <a key=${place} href=${to(place)} aria-current=${last ? "page" : null}>${visible(nameOf(name))}</a>`;
  })}</nav>`;
}

function Folder({ at }) {
  const { data, error, loading, again } = useData((signal) => list(at, "", signal), [at]);
  const [more, setMore] = useState({ items: [], next: undefined, error: null });
  const items = [...(data?.items || []), ...more.items];
  const next = more.next === undefined ? data?.next : more.next;
  const rows = items.map((one) => ({ ...one, at: at + one.id + (one.kind === "folder" ? "/" : "") }));
  rows.sort((one, other) => (other.kind === "folder") - (one.kind === "folder")
    || one.name.localeCompare(other.name, "en", { numeric: true }));
  const changed = () => {
    setMore({ items: [], next: undefined, error: null });
    again();
  };
  async function further() {
    try {
      const page = await list(at, next);
      setMore({ items: [...more.items, ...page.items], next: page.next, error: null });
    } catch (failed) {
      setMore({ ...more, error: failed });
    }
  }
  const writable = at !== "" && data?.writable !== false;
  return html`<${Problem} error=${error} retry=${again} />
    ${loading && !data ? html`<${Loading} what="the folder" />` : null}
    ${at !== "" && data && html`<${Bring} at=${at} there=${rows} writable=${writable} then=${changed} />`}
    ${data && html`<${Table} columns=${at ? columns(writable, changed) : ROOTS} rows=${rows} rowKey=${(one) => one.at} label="Files"
      empty=${at ? "The folder is empty." : "There is no root: the config may name some under admin.roots."} />`}
    <${Problem} error=${more.error} />
    ${next && html`<p><button type="button" onClick=${further}>More</button></p>`}`;
}

function Name({ of: one }) {
  const opens = one.kind === "folder" || (one.kind === "file" && one.size <= LARGEST);
  const name = visible(one.name) + (one.kind === "folder" ? "/" : "");
  return html`<span class="file-name">${opens ? html`<a href=${to(one.at)}>${name}</a>` : name}
    ${one.kind === "link" ? html` <span class="quiet">link to ${visible(one.target)}</span>` : null}
    ${one.kind === "other" ? html` <span class="quiet">neither file nor folder</span>` : null}</span>`;
}

const ROOTS = [
  { id: "name", title: "Root", cell: (one) => html`<${Name} of=${one} />` },
  { id: "path", title: "Folder", wide: true, cell: (one) => html`<code>${visible(one.folder)}</code>` },
  { id: "mode", title: "", cell: (one) => (one.writable === false ? "read only" : "") },
];

const columns = (writable, changed) => [
  { id: "name", title: "Name", wide: true, cell: (one) => html`<${Name} of=${one} />`, sort: (one) => one.name },
  { id: "size", title: "Size", num: true, cell: (one) => (one.kind === "file" ? bytes(one.size) : ""),
    sort: (one) => (one.kind === "file" ? one.size : null) },
  { id: "mtime", title: "Changed", cell: (one) => html`<${When} at=${one.mtime} />`, sort: (one) => one.mtime },
  { id: "acts", title: "", cell: (one) => html`<span class="row-acts">
    ${one.kind === "file" && html`<a href=${addressOf(one.at)} download=${one.name}>Download</a>`}
    ${one.kind === "folder" && html`<a href=${addressOf(one.at)} download=${`${one.name}.zip`}>Zip</a>`}
    ${writable && html`<${Delete} of=${one} then=${changed} />`}</span>` },
];

function Delete({ of: one, then }) {
  const folder = one.kind === "folder";
  async function gone() {
    try {
      await takeAway(one.at, one.etag); // the one that was seen, and no other
    } finally {
      then();
    }
  }
  return html`<${Confirm} label="Delete" what=${visible(one.name)} run=${gone}
    sure=${folder ? "Delete it with all that is in it" : "Delete it"} words="There is no way back." />`;
}

// --- bringing files ------------------------------------------------------------------------------------

function Bring({ at, there, writable, then }) {
  const [jobs, setJobs] = useState([]);
  const [folder, setFolder] = useState(null);
  const [over, setOver] = useState(false);
  const numbers = useRef(0);
  const change = (id, changes) => setJobs((before) => before.map((job) => (job.id === id ? { ...job, ...changes } : job)));

  async function upload(job, overwrite = false) {
    const stop = new AbortController();
    change(job.id, { state: "going", sent: 0, error: null, stop });
    const progress = (sent) => change(job.id, { sent });
    try {
      if (job.unpacks) {
        const answer = await unpack(at, job.file, { progress, signal: stop.signal });
        change(job.id, { state: "done", words: answer?.words || counted(answer) });
      } else {
        const tag = overwrite ? job.tag : "";
        await write(placeIn(at, job.file.name), job.file, { tag, progress, signal: stop.signal });
        change(job.id, { state: "done", words: overwrite ? "overwritten" : "" });
      }
      then();
    } catch (error) {
      const tag = error.status === 412 && !job.unpacks ? await tagOf(placeIn(at, job.file.name)).catch(() => "") : "";
      change(job.id, tag ? { state: "conflict", tag } : { state: "failed", error });
    }
  }

  function take(files, unpacks = false) {
    const fresh = [...files].map((file) => ({ id: ++numbers.current, file, unpacks, state: "waiting", sent: 0 }));
    setJobs((before) => [...before.filter((job) => job.state !== "done"), ...fresh]);
    (async () => {
      for (const job of fresh) await upload(job); // one after the other: each has the whole line
    })();
  }

  const chosen = (unpacks) => (event) => {
    take(event.target.files, unpacks);
    event.target.value = "";
  };
  const dropped = (event) => {
    event.preventDefault();
    setOver(false);
    if (writable) take(event.dataTransfer.files);
  };
  const above = (event) => {
    event.preventDefault();
    setOver(writable);
  };
  const within = at.split("/").filter(Boolean).map(nameOf).join("/");
  return html`<section class="bring ${over ? "over" : ""}" aria-label="Acts on this folder" onDragOver=${above}
      onDragLeave=${() => setOver(false)} onDrop=${dropped}>
    <div class="acts">
      ${writable && html`
        <label class="button">Upload files<input type="file" multiple name="upload" onChange=${chosen(false)} /></label>
        <label class="button">Upload a zip and unpack it here<input type="file" accept=".zip,application/zip" name="unpack"
          onChange=${chosen(true)} /></label>
        <button type="button" onClick=${() => setFolder("")}>New folder</button>`}
      <a class="button" href=${addressOf(at)} download=${`${nameOf(at)}.zip`}>Download as zip</a>
      <a class="button" href=${href("console", { show: "command", in: within })}>Run a command here</a>
      <span class="hint">${writable ? "or drop files here. What a zip has replaces files of the same name."
    : "This root is read only."}</span>
    </div>
    ${folder !== null && html`<${NewFolder} at=${at} there=${there} leave=${() => setFolder(null)} then=${then} />`}
    ${jobs.length > 0 && html`<ul class="jobs">${jobs.map((job) => html`<${Job} key=${job.id} job=${job} there=${there}
      again=${(overwrite) => upload(job, overwrite)} leave=${() => setJobs((all) => all.filter((one) => one !== job))} />`)}</ul>`}
  </section>`;
}

/** What a zip brought, in words. */
function counted(answer) {
  if (!answer) return "unpacked";
  const files = answer.files ?? answer.written;
  return typeof files === "number" ? `${files} files unpacked` : "unpacked";
}

function Job({ job, there, again, leave }) {
  const { file, state, sent, words, error, stop, unpacks } = job;
  const name = visible(file.name);
  const known = there.find((one) => one.name === file.name);
  return html`<li><b>${name}</b> <span class="quiet">${bytes(file.size)}</span>
    ${state === "waiting" && html` <span class="quiet">waits</span>`}
    ${state === "going" && html` <progress max=${file.size || 1} value=${sent} aria-label=${`How much of ${name} is sent`}></progress>
      <span class="quiet">${percent(file.size ? sent / file.size : 1)}</span>
      <button type="button" class="small" onClick=${() => stop.abort()}>Cancel</button>`}
    ${state === "done" && html` <span class="state good">${unpacks ? "unpacked" : "uploaded"}</span> ${words}`}
    ${state === "conflict" && html`<span class="problem" role="alert">There is a file of this name already
      ${known ? html`, ${bytes(known.size)}, changed <${When} at=${known.mtime} />` : ""}.
      ${" "}<button type="button" class="small danger" onClick=${() => again(true)}>Overwrite it</button>
      ${" "}<button type="button" class="small" onClick=${leave}>Keep it</button></span>`}
    ${state === "failed" && html`<${Problem} error=${error} retry=${() => again(Boolean(job.tag))} />
      <button type="button" class="small" onClick=${leave}>Forget it</button>`}</li>`;
}

function NewFolder({ at, there, leave, then }) {
  const [name, setName] = useState("");
  const [error, setError] = useState(null);
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  async function make(event) {
    event.preventDefault();
    if (there.some((one) => one.name === name)) return setError({ title: "There is something of this name already." });
    if (name === "." || name === ".." || name.includes("/")) return setError({ title: "A name has no / and is not . or .." });
    try {
      await makeFolder(placeIn(at, name, true));
      leave();
      then();
    } catch (failed) {
      setError(failed);
    }
  }
  return html`<form class="filters" onSubmit=${make}><label><span>Name</span><input ref=${field} name="folder" value=${name} required
      autocomplete="off" onInput=${(event) => setName(event.target.value)} /></label>
    <button class="primary">Make it</button> <button type="button" onClick=${leave}>Cancel</button></form>
    <${Problem} error=${error} />`;
}
