// Looking deeper into an instance: what it runs at this moment, where its time goes, what is in its memory.
import { html, useState } from "../lib/core.js";
import { get } from "../lib/api.js";
import { Act, NotYours } from "../lib/act.js";
import { bytes, clock, visible } from "../lib/format.js";
import { Choice, Problem, useData } from "../lib/parts.js";
import { href } from "../lib/route.js";
import { Copy } from "./blocks.js";

// --- stacks --------------------------------------------------------------------------------------------

/** Stacks of all its threads, asked for when it is opened and again by hand. */
export function Stacks({ path }) {
  const { data, error, loading, again } = useData((signal) => get(`${path}/stacks`, {}, signal), [path]);
  return html`<div class="acts"><button type="button" class="primary" disabled=${loading} onClick=${again}>
      ${loading ? "Looking …" : "Look again"}</button>
      ${data && html`<span class="quiet">At ${clock(data.time)}, innermost call first.</span>
        <${Copy} text=${data.stacks} label="Copy all stacks" />`}</div>
    <${Problem} error=${error} />
    ${data?.processes?.map((one) => html`<${Process} key=${one.pid} one=${one} />`)}
    ${data && !data.processes && html`<pre class="sample" tabindex="0">${data.stacks}</pre>`}
    ${data?.notes?.length > 0 && html`<p class="quiet">Left out: ${data.notes.join("; ")}.</p>`}`;
}

function Process({ one }) {
  const { pid, name, how, why, threads = [] } = one;
  const order = [...threads].sort((a, b) => Number(b.gil) - Number(a.gil) || Number(b.active) - Number(a.active));
  return html`<section><h2>${visible(name)} <span class="quiet">pid ${pid}${how ? `, seen by ${how}` : ""}</span></h2>
    ${why && html`<p class="note">${why}</p>`}
    ${order.map((thread) => html`<${Thread} key=${thread.id} of=${thread} only=${threads.length < 4} />`)}
  </section>`;
}

function Thread({ of: thread, only }) {
  const { id, name, active, gil, note, wait_channel: waits, frames = [] } = thread;
  const says = [active ? "runs" : "waits", gil && "holds the GIL", waits && `in ${waits}`, note].filter(Boolean).join(", ");
  return html`<details class="finding" open=${active || only}><summary><b>${visible(name || "thread")}</b>
      ${" "}<span class="quiet">${id}</span> ${says}</summary>
    ${frames.length ? html`<pre tabindex="0">${frames.map((frame) => `${visible(frame.function)}${frame.file
      ? `  (${visible(frame.file)}${frame.line ? `:${frame.line}` : ""})` : ""}`).join("\n")}</pre>`
    : html`<p class="empty">No calls can be seen.</p>`}</details>`;
}

// --- profile, memory dump ------------------------------------------------------------------------------

const LENGTHS = [["5", "5 s"], ["10", "10 s"], ["30", "30 s"], ["60", "a minute"]];

/** What a collector costs and needs, as the API has it. */
function useCost(id) {
  const { data, error } = useData((signal) => get("collectors", {}, signal), []);
  return { one: data?.items.find((each) => each.id === id), error };
}

/** Acts that begin a session have no preview of their own: this says what they cost. */
const foreseeing = (one, lines) => async () => ({
  will: [...lines, ...(one ? [`It costs: ${one.cost}.`, `It needs: ${one.needs}.`] : [])],
});

/** A profile becomes a session: its page shows where the time went. */
export function Profile({ path, app, instance }) {
  const [length, set] = useState("10");
  const { one, error } = useCost("profile");
  const will = foreseeing(one, [`For ${length} s it is looked at, many times a second, what ${instance} runs.`]);
  return html`<p class="lead">Looks many times a second at what it runs, and shows where its time goes.</p>
    <${Cost} of=${one} error=${error} />
    <div class="filters"><${Choice} label="For" name="seconds" value=${length} options=${LENGTHS} set=${set} />
      <${Act} label="Profile" title=${`Profile ${app}/${instance} for ${length} s`} path=${`${path}/profile`}
        body=${{ seconds: `${length}s` }} foresee=${will} /></div>
    <${NotYours} what="Profiles" />
    <p class="quiet">It becomes a session, kept among <a href=${href("analyze")}>all sessions</a>, with the profile to download.
      ${" "}To gather more than this at once: <a href=${href("analyze", { app, instance })}>diagnose it</a>.</p>`;
}

/** What a memory dump costs is said before it is asked for. */
export function MemoryDump({ path, app, instance, memory }) {
  const { one, error } = useCost("memory_dump");
  const size = memory ? `about ${bytes(memory)}` : "as much as it has in memory";
  const will = foreseeing(one, [
    `A file of ${size} is written to the disk of the data folder; it holds every secret of the process.`,
  ]);
  return html`<p class="lead">Writes all of its memory to a file, to be looked at with a debugger.</p>
    <p class="note"><b>The file holds every secret of the process:</b> keys, passwords, what its users sent. A bundle has it only
      where one asks for it. It takes ${size} on the disk of the data folder.</p>
    <${Cost} of=${one} error=${error} />
    <div class="acts"><${Act} label="Memory dump" title=${`Memory dump of ${app}/${instance}`} path=${`${path}/memory-dump`} danger
      foresee=${will} /></div>
    <${NotYours} what="Memory dumps" />
    <p class="quiet">It becomes a session, kept among <a href=${href("analyze")}>all sessions</a>; the file is among its downloads.</p>`;
}

function Cost({ of, error }) {
  return html`<${Problem} error=${error} />${of && html`<p>It costs: ${of.cost}. It needs: ${of.needs}.</p>`}`;
}
