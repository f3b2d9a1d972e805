// The acts on an app and on an instance, as they stand in rows and on pages.
import { html } from "./core.js";
import { pathOf } from "./api.js";
import { Act } from "./act.js";

const FOR = {
  name: "for", label: "For how long", value: "", hint: "Such as 10m or 2h; empty: until it is ended by hand.",
};

/** `app` as the stream or `status` has it: state, wanted, muted_until, by_hand. */
export function AppActs({ app }) {
  const { id, state, wanted, muted_until: muted, by_hand: byHand } = app;
  const path = (act) => `${pathOf("apps", id)}/${act}`;
  const count = [{ name: "instances", label: "Instances", type: "number", value: wanted }, FOR];
  const mute = [{ ...FOR, value: "1h", hint: "Nobody is told of its incidents meanwhile; they are kept." }];
  return html`
    <${Act} label="Restart" title="Restart ${id}" path=${path("restart")} />
    <${Act} label="Scale" title="Scale ${id}" path=${path("scale")} fields=${count} />
    ${byHand?.count && html`<${Act} label="Scale auto" title="Let config and rules scale ${id} again"
      path=${path("scale")} body=${{ auto: true }} />`}
    ${state === "stopped" ? html`<${Act} label="Start" title="Start ${id}" path=${path("start")} />`
    : html`<${Act} label="Stop" title="Stop ${id}" path=${path("stop")} fields=${[FOR]} danger />`}
    ${state === "held" ? html`<${Act} label="Release" title="Release ${id}" path=${path("release")} />`
    : html`<${Act} label="Hold" title="Hold ${id}" path=${path("hold")} fields=${[FOR]} />`}
    ${muted ? html`<${Act} label="Unmute" title="Unmute ${id}" path=${path("mute")} body=${{ unmute: true }} />`
    : html`<${Act} label="Mute" title="Mute ${id}" path=${path("mute")} fields=${mute} />`}`;
}

/** `instance` as the stream or the API has it: id, app, admission. */
export function InstanceActs({ instance }) {
  const { id, app, admission } = instance;
  const path = (act) => `${pathOf("apps", app, "instances", id)}/${act}`;
  const force = { name: "force", label: "Also when no other gets requests", type: "check", value: false };
  return html`
    <${Act} label="Recycle" title="Recycle ${app}/${id}" path=${path("recycle")} />
    ${admission === "ejected" ? html`<${Act} label="Admit" title="Admit ${app}/${id}" path=${path("admit")} />`
    : html`<${Act} label="Eject" title="Eject ${app}/${id}" path=${path("eject")} fields=${[FOR, force]} danger />`}`;
}
