// Acts on Triage itself: the config read again, checked first; and the upgrade to the code on disk.
import { html } from "../lib/core.js";
import { post } from "../lib/api.js";
import { Act } from "../lib/act.js";

/** What a reload would do: the file is checked, and what is wrong with it is said. */
async function checked() {
  const { ok, problems, warnings } = await post("config/check", {});
  if (!ok) return { problems };
  return {
    will: [
      "The config file has no problem. It is read and applied: apps that it changes get fresh instances, one after the other.",
      ...warnings.map((line) => `Warning: ${line}`),
    ],
  };
}

export function GatewayActs({ then }) {
  return html`<div class="acts">
    <${Act} label="Reload config" title="Read the config file again" path="config/reload" foresee=${checked} then=${then} />
    <${Act} label="Upgrade" title="Become the code now on disk" path="upgrade" needs="admin" then=${then} />
  </div>`;
}
