// The gateway itself: what it runs on, what it is made of, and its processes.
import { html } from "../lib/core.js";
import { get } from "../lib/api.js";
import { useRoute } from "../lib/route.js";
import { Page } from "../lib/parts.js";
import { shownOf, Tabs } from "../lib/tabs.js";
import { Environment } from "./environment.js";
import { GatewayActs } from "./gateway_acts.js";
import { Processes } from "./processes.js";

const TABS = [["environment", "Environment"], ["processes", "Processes"], ["config", "Config in force"]];

/** The config in parts: one for each of its tables, and for each app. */
async function inForce(signal) {
  const { config, ...about } = await get("config", {}, signal);
  const parts = Object.entries(config).flatMap(([name, value]) => (name === "apps"
    ? Object.entries(value).map(([app, table]) => [`apps.${app}`, table]) : [[name, value]]));
  return { ...about, ...Object.fromEntries(parts) };
}

export default function Gateway() {
  const shown = shownOf(useRoute().query, TABS);
  return html`<${Page} title="Gateway" aside=${html`<${GatewayActs} />`}>
    <${Tabs} tabs=${TABS} label="Parts of the gateway" />
    ${shown === "environment" && html`<${Environment} ask=${(signal) => get("environment", {}, signal)} of="gateway" />`}
    ${shown === "processes" && html`<${Processes} />`}
    ${shown === "config" && html`<${Environment} ask=${inForce} of="config" />`}
  <//>`;
}
