// A button that opens a small box of acts over the page, so that no table cuts it off.
import { html, useRef, useState } from "./core.js";
import { useMay } from "./who.js";

let numbers = 0;

/** `children` are shown when it is open; `label` says whose acts they are. Not there for whose role may not act. */
export function Menu({ label, children }) {
  const [id] = useState(() => `menu-${++numbers}`);
  const [open, setOpen] = useState(false);
  const button = useRef(null);
  const allowed = useMay("operator");
  const toggled = (event) => {
    setOpen(event.newState === "open");
    if (event.newState !== "open") return;
    const box = event.target, place = button.current.getBoundingClientRect();
    const fits = innerHeight - place.bottom > box.offsetHeight + 8;
    const top = fits ? place.bottom + 4 : Math.max(8, place.top - box.offsetHeight - 4);
    box.style.left = `${Math.max(8, place.right - box.offsetWidth)}px`;
    box.style.top = `${top}px`;
  };
  const chosen = (event) => event.target.closest("button") && event.currentTarget.hidePopover();
  if (!allowed) return null;
  return html`<button type="button" class="small" ref=${button} popovertarget=${id} aria-label=${label}>Act</button>
    <div popover="auto" id=${id} class="popover" onBeforeToggle=${(event) => setOpen(event.newState === "open")}
      onToggle=${toggled} onClick=${chosen}>${open && children}</div>`;
}
