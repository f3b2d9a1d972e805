// Console: files, a command, a terminal, on the gateway's machine or in an instance's place. For the role admin, and only
// where the config says so.
import { html, useEffect } from "../lib/core.js";
import { useRoute } from "../lib/route.js";
import { Loading, Page } from "../lib/parts.js";
import { shownOf, Tabs } from "../lib/tabs.js";
import { may, refresh, useWho } from "../lib/who.js";
import { Copy } from "./blocks.js";
import { Command } from "./command.js";
import { Files } from "./files.js";
import { Place } from "./place.js";
import { Terminals } from "./terminals.js";

const TABS = [["files", "Files"], ["command", "Command"], ["terminal", "Terminal"]];
const AGAIN_MS = 3000;
const SWITCH = "[admin]\nconsole = true\n";

export default function Console() {
  const who = useWho();
  const { query } = useRoute();
  const shown = shownOf(query, TABS);
  if (!who) return html`<${Page} title="Console"><${Loading} /><//>`;
  if (!may(who, "admin")) {
    return html`<${Page} title="Console"><p class="empty">The console needs the role admin; yours is ${who.role}.</p><//>`;
  }
  if (!who.console) return html`<${Off} />`;
  return html`<${Page} title="Console">
    <${Tabs} tabs=${TABS} label="Parts of the console" />
    ${shown === "files" ? html`<${Files} />` : html`<${Place} />`}
    <div hidden=${shown !== "command"}><${Command} /></div>
    <div hidden=${shown !== "terminal"}><${Terminals} shown=${shown === "terminal"} /></div>
  <//>`;
}

function Off() {
  useEffect(() => {
    const timer = setInterval(refresh, AGAIN_MS); // it is there as soon as the config has it
    return () => clearInterval(timer);
  }, []);
  return html`<${Page} title="Console">
    <p class="lead">The console is off.</p>
    <p>With it, whoever has the role admin can read and change files, run commands and open a terminal on this machine,
      so it is there only where the config asks for it:</p>
    <pre>${SWITCH}</pre><p><${Copy} text=${SWITCH} /></p>
    <p>Then <code>triage reload</code>, or <a href="#/mitigate">reload the config</a> here; this page shows it then.</p>
  <//>`;
}
