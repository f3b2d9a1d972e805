// A terminal in a page: xterm.js, loaded when the first one is opened, so that it keeps the page's policy.
//
// The Content-Security-Policy has `style-src 'self'`: no <style> element, no style attribute. xterm writes both, and
// takes no nonce. Each has a twin that parses no markup and that the policy lets pass: a constructed style sheet, and
// an element's `style` property. While there is a terminal, the document's `createElement` makes those twins: xterm's
// files stay as they are, and the policy is as strict here as on any other page.

let loading = null;
let terminals = 0;

/** `{Terminal, FitAddon}` of xterm.js. Throws when a file of it does not come. */
export function load() {
  loading ||= Promise.all([import("../vendor/xterm.js"), import("../vendor/xterm-fit.js"), sheet("vendor/xterm.css")])
    .then(([{ Terminal }, { FitAddon }]) => ({ Terminal, FitAddon }), (error) => {
      loading = null;
      throw error;
    });
  return loading;
}

function sheet(address) {
  return new Promise((done, failed) => {
    const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: address });
    link.onload = done;
    link.onerror = () => failed(new Error(`${address} could not be loaded`));
    document.head.append(link);
  });
}

/**
 * A terminal in the element `box`, as large as that is. `options` are those of xterm. Answers `{terminal, fit(), end()}`;
 * `fit` takes the box's present size.
 */
export async function open(box, options) {
  const { Terminal, FitAddon } = await load();
  const terminal = new Terminal(options);
  const fitting = new FitAddon();
  terminal.loadAddon(fitting);
  terminals += 1;
  document.createElement = create;
  terminal.open(box);
  const end = () => {
    terminal.dispose();
    if (--terminals === 0) delete document.createElement; // the prototype's is there again
  };
  return { terminal, fit: () => fitting.fit(), end };
}

function create(tag, options) {
  if (tag === "style") return twinOfStyle();
  const made = Document.prototype.createElement.call(document, tag, options);
  if (tag === "span") made.setAttribute = setAttribute;
  return made;
}

function setAttribute(name, value) {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}

/** Stands where the <style> would; its text becomes a constructed sheet of the document. */
function twinOfStyle() {
  const made = Document.prototype.createElement.call(document, "template");
  const rules = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, rules];
  Object.defineProperty(made, "textContent", { set: (text) => rules.replaceSync(text) });
  made.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== rules);
    Element.prototype.remove.call(made);
  };
  return made;
}
