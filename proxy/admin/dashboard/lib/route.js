// Addresses: all that one would share stands behind the #, so that a link shows what its sender saw.
import { useEffect, useState } from "./core.js";

const heard = new Set();

function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const segments = path.split("/").filter(Boolean).map(decoded);
  return { path: segments, query: new URLSearchParams(query) };
}

function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function tell() {
  const route = read();
  heard.forEach((then) => then(route));
}

addEventListener("hashchange", tell);

/** Where we are: `{path: [segments], query: URLSearchParams}`. */
export function useRoute() {
  const [route, set] = useState(read);
  useEffect(() => {
    heard.add(set);
    set(read());
    return () => heard.delete(set);
  }, []);
  return route;
}

/** The address of a page: `path` is "apps/web" or segments, each of which is encoded. */
export function href(path = "", query = {}) {
  const text = Array.isArray(path) ? path.map(encodeURIComponent).join("/") : path.replace(/^#?\/+/, "");
  const given = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  const asked = new URLSearchParams(given.filter(([, value]) => value !== "" && value != null)).toString();
  return `#/${text}${asked ? `?${asked.replaceAll("%2C", ",")}` : ""}`;
}

/** Go there, so that Back returns here. */
export function go(path, query) {
  location.hash = href(path, query);
}

/** Change parts of the query and stay on the page; null or "" takes one out. With `step`, Back undoes it. */
export function setQuery(changes, { step = false } = {}) {
  const { path, query } = read();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") query.delete(name);
    else query.set(name, value);
  }
  const next = href(path, query);
  if (next === location.hash) return;
  history[step ? "pushState" : "replaceState"](null, "", next);
  tell();
}
