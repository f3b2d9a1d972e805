// What a rule would have done: run over what was recorded, nothing is touched.
import { html, useState } from "../lib/core.js";
import { post } from "../lib/api.js";
import { useMay } from "../lib/who.js";
import { count, percent } from "../lib/format.js";
import { Choice, Problem, State, Table } from "../lib/parts.js";
import { Facts, When, Words } from "./blocks.js";

const SPANS = [["1h", "1 h"], ["6h", "6 h"], ["24h", "24 h"], ["7d", "7 days"], ["30d", "30 days"]];
const OWN = '{"name": "slow", "when": {"slow": {"above": "5s", "count": 20, "within": "1m"}}, "then": ["recycle"]}';

/** `apps`: as `autoheal` has them, with their rules. */
export function Replay({ apps }) {
  const allowed = useMay("operator");
  const [app, setApp] = useState("");
  const [rule, setRule] = useState("");
  const [own, setOwn] = useState(OWN);
  const [since, setSince] = useState("24h");
  const [found, set] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const chosen = apps.find((one) => one.id === app) || apps[0];
  const names = [...new Set((chosen?.rules || []).map((one) => one.name))];
  const wanted = rule === "own" || names.includes(rule) ? rule : names[0] || "own";
  if (!allowed || !chosen) return null;

  async function run(event) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      set(await post("autoheal/replay", { app: chosen.id, rule: wanted === "own" ? read(own) : wanted, since }));
    } catch (failed) {
      set(null);
      setError(failed);
    } finally {
      setBusy(false);
    }
  }
  return html`<section class="replay"><h3>What would a rule have done?</h3>
    <form onSubmit=${run}><div class="filters">
      <${Choice} label="App" name="replay-app" value=${chosen.id} options=${apps.map((one) => one.id)} set=${setApp} />
      <${Choice} label="Rule" name="replay-rule" value=${wanted} set=${setRule}
        options=${[...names, ["own", "one that is not in the config"]]} />
      <${Choice} label="Over the last" name="replay-since" value=${since} options=${SPANS} set=${setSince} />
      <button class="primary" disabled=${busy}>${busy ? "Replaying …" : "Replay"}</button>
      <span class="hint">Reads what was recorded; does nothing.</span></div>
      ${wanted === "own" && html`<label class="wide"><span>The rule, as JSON, with the keys that the config has</span>
        <textarea class="rule" rows="3" spellcheck=${false} value=${own}
          onInput=${(event) => setOwn(event.target.value)}></textarea></label>`}
    </form>
    <${Problem} error=${error} />
    ${found && html`<${Outcome} of=${found} />`}</section>`;
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw Object.assign(new Error("The rule is not JSON"), { title: "The rule is not JSON", detail: error.message });
  }
}

const FIRED = [
  { id: "time", title: "It would have fired", cell: (one) => html`<${When} at=${one.time} />` },
  { id: "instance", title: "For", cell: (one) => one.instance || "the app" },
  { id: "words", title: "Because", wide: true, cell: (one) => html`<${Words} text=${one.words} />` },
];

function Outcome({ of: one }) {
  const kept = Object.entries(one.kept_from || {}).map(([guard, many]) => `${guard} ${count(many)} times`).join(", ");
  return html`<div role="status">
    <p class="note"><${State} value=${one.fired.length ? "fires" : "does not fire"} kind=${one.fired.length ? "busy" : "good"} />
      <${Words} text=${one.verdict} /></p>
    <${Facts} of=${[
      ["Rule", one.rule], ["When", html`<${Words} text=${one.when} />`],
      ["Looked at", html`<${When} at=${one.since} /> to <${When} at=${one.until} />, ${count(one.points)} points`],
      ["Kept from acting by", kept], ["Nearest", one.nearest && html`${percent(one.share)}: <${Words} text=${one.nearest.words} />`],
      ["Not known", one.not_known?.join("; ")],
    ]} />
    ${one.fired.length > 0 && html`<${Table} columns=${FIRED} label="Firings"
      rows=${one.fired.map((row, at) => ({ ...row, id: at }))} />`}
  </div>`;
}
