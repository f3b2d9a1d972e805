// Who is logged in, and what that role may do: what it may not do is not offered.
import { useEffect, useState } from "./core.js";
import { get, onUnauthorized } from "./api.js";

export const ROLES = ["viewer", "operator", "admin"];
const AGAIN_MS = 3000;

let who = null; // as GET whoami has it; null: not known yet
let asking = null;
const listeners = new Set();

onUnauthorized(() => tell(null));

function tell(found) {
  who = found;
  asking = null; // what was asked before is about someone else
  listeners.forEach((told) => told(found));
}

function ask() {
  if (asking) return;
  const mine = (asking = get("whoami"));
  mine.then((found) => mine === asking && tell(found), (error) => {
    if (mine !== asking) return;
    asking = null;
    if (error.status !== 401) setTimeout(() => listeners.size && !who && ask(), AGAIN_MS);
  });
}

/** `{name, role, way, expires, console}` of who is logged in; null until it is known. */
export function useWho() {
  const [known, set] = useState(who);
  useEffect(() => {
    listeners.add(set);
    if (!who) ask();
    else set(who);
    return () => listeners.delete(set);
  }, []);
  return known;
}

/** Whoever was logged in is not any more; whoever is next is asked about. */
export function nobody() {
  tell(null);
}

/** Ask again, and keep what is known until the answer comes. */
export function refresh() {
  ask();
}

/** Whether `found`, as useWho answers it, may do what needs `role`. */
export function may(found, role) {
  return found !== null && ROLES.indexOf(found.role) >= ROLES.indexOf(role);
}

/** Whether who is logged in may do what needs `role`. */
export function useMay(role) {
  return may(useWho(), role);
}
