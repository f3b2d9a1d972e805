// One act, step by step, as it happens.
import { html, useEffect, useState } from "../lib/core.js";
import { get, pathOf } from "../lib/api.js";
import { useRoute } from "../lib/route.js";
import { seconds } from "../lib/format.js";
import { Loading, Page, Problem, State } from "../lib/parts.js";
import { Facts, Timeline, When, Where } from "./blocks.js";

const AGAIN_MS = 2000;

export const COLUMNS = [
  { id: "id", title: "Operation", cell: (one) => one.id },
  { id: "act", title: "Act", cell: (one) => `${one.act} ${one.target}` },
  { id: "state", title: "State", cell: (one) => html`<${State} value=${one.state} />` },
  { id: "by", title: "By", cell: (one) => (one.reason && one.reason !== one.by ? `${one.by}: ${one.reason}` : one.by) },
  { id: "time", title: "Began", cell: (one) => html`<${When} at=${one.time} since />` },
  { id: "took", title: "Took", num: true, cell: (one) => seconds(one.took_s) },
  { id: "why", title: "Came to", wide: true, cell: (one) => one.why || one.steps.at(-1)?.text || "" },
];

/** The newest state of an operation, asked for again as soon as there is more. */
function useOperation(id) {
  const [state, set] = useState({ one: null, error: null });
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    async function ask(seen) {
      try {
        const query = seen === null ? {} : { wait: "30s", seen };
        const one = await get(`operations/${pathOf(id)}`, query, stop.signal);
        if (stop.signal.aborted) return;
        set({ one, error: null });
        if (one.state === "running") timer = setTimeout(ask, 50, one.told);
      } catch (error) {
        if (stop.signal.aborted) return;
        set((before) => ({ ...before, error }));
        if (error.status !== 404 && error.status !== 401) timer = setTimeout(ask, AGAIN_MS, null);
      }
    }
    ask(null);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [id]);
  return state;
}

export default function Operation() {
  const id = useRoute().path[1];
  const { one, error } = useOperation(id);
  return html`<${Page} title=${one ? `${one.act} ${one.target}` : id}
    aside=${one && html`<${State} value=${one.state} />`}>
    <${Problem} error=${error} />
    ${!one && !error ? html`<${Loading} what=${id} />` : null}
    ${one && html`
      ${one.why && html`<p class="lead">${one.why}</p>`}
      <${Facts} of=${[
        ["Operation", html`<code>${one.id}</code>`],
        ["App", html`<${Where} app=${one.app} />`],
        ["Instances", one.targets.length ? one.targets.join(", ") : one.instance],
        ["By", `${one.by}${one.way ? ` (${one.way})` : ""}`], ["Reason", one.reason !== one.by && one.reason],
        ["Rule", one.rule && `${one.rule}: ${one.value}`],
        ["Began", html`<${When} at=${one.time} since />`],
        ["Took", one.state === "running" ? `${seconds(one.took_s)} so far` : seconds(one.took_s)],
        ["Evidence", one.evidence],
      ].map(([name, value]) => [name, value || null])} />
      <h2>Steps</h2>
      ${one.told > one.steps.length
        ? html`<p class="quiet">${one.steps.length} of ${one.told} are kept: the first and the last.</p>` : null}
      <div aria-live="polite"><${Timeline} steps=${one.steps} /></div>`}
  </${Page}>`;
}
