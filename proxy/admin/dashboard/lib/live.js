// What goes on now: one stream for the whole page, its ticks merged; and the last 15 minutes of it for sparklines.
import { useEffect, useState } from "./core.js";
import { follow, get } from "./api.js";

const LATE_MS = 5000; // a tick comes each second
const STEP = 10; // seconds of one value of the history
const KEPT = 90; // of them: 15 minutes
const METRICS = { requests_per_s: "requests", faults_per_s: "faults", memory: "memory", cpu: "cpu" };

let state = { live: null, state: "waiting", since: Date.now(), heard: null, error: null };
let users = 0, end = null, watch = 0;
let newest = 0; // step of the newest tick, by the gateway's clock
const listeners = new Set();
const past = new Map(); // app/instance/name → {at: number of the newest step, values}
const asked = new Map(); // name → promise of its past

/**
 * `{live, state, since, heard, error, now}`: `live` is the newest whole state or null, `state` is "open" or "waiting",
 * `since` (ms) when that began, `heard` (ms) when the last news came, `error` why there is none.
 */
export function useLive() {
  const [, turn] = useState(0);
  useEffect(() => {
    const told = () => turn((before) => before + 1);
    listeners.add(told);
    if (++users === 1) begin();
    return () => {
      listeners.delete(told);
      if (--users === 0) stop();
    };
  }, []);
  return { ...state, now: Date.now() };
}

function begin() {
  end = follow("metrics/stream", {}, {
    whole: (data) => merge(data, new Map()),
    tick: (data) => state.live && merge(data, index(state.live.instances)),
    onState: (word, error) => word === "waiting" && change("waiting", error),
  });
  watch = setInterval(() => {
    if (document.hidden || (state.state === "open" && Date.now() - state.heard < LATE_MS)) return;
    change("waiting", state.error); // also when it waits already: that it does is soon worth saying
  }, 1000);
}

function stop() {
  end?.();
  clearInterval(watch);
  state = { ...state, live: null, state: "waiting", since: Date.now() };
}

function change(word, error) {
  const since = word === state.state ? state.since : Date.now();
  state = { ...state, state: word, since, error };
  listeners.forEach((told) => told());
}

const keyOf = (instance) => `${instance.app}/${instance.id}`;
const index = (instances) => new Map(instances.map((one) => [keyOf(one), one]));

function merge(data, known) {
  const at = timeOf(data);
  for (const one of data.instances || []) known.set(keyOf(one), { ...one, began: at - one.uptime_s });
  for (const gone of data.gone || []) {
    known.delete(gone);
  }
  // The stream tells of an instance when something else changes; that it runs on is counted here.
  for (const one of known.values()) if (one.uptime_s !== null) one.uptime_s = at - one.began;
  const live = { ...data, instances: [...known.values()] };
  remember(live);
  state = { ...state, live, heard: Date.now() };
  change("open", null);
}

// --- the last 15 minutes -----------------------------------------------------------------------------

function remember(live) {
  const at = (newest = Math.floor(timeOf(live) / STEP));
  for (const name of asked.keys()) {
    for (const app of live.apps || []) put(app.id, "", name, at, app[name]);
    for (const one of live.instances) put(one.app, one.id, name, at, one[name]);
  }
}

const timeOf = (live) => (live.time ? new Date(live.time).getTime() / 1000 : Date.now() / 1000);

function put(app, instance, name, at, value) {
  if (value === undefined) return;
  const row = ring(`${app}/${instance}/${name}`, at);
  for (; row.at < at; row.at++) {
    row.values.push(null);
    row.values.shift();
  }
  const place = KEPT - 1 - (row.at - at);
  if (place >= 0) row.values[place] = value;
}

function ring(key, at) {
  if (!past.has(key)) past.set(key, { at, values: new Array(KEPT).fill(null) });
  return past.get(key);
}

/** The last 15 minutes of `name`, oldest first, 10 s each; null where nothing is known. `instance` "" is the app. */
export function history(app, instance, name) {
  if (!asked.has(name)) asked.set(name, fill(name));
  return past.get(`${app}/${instance}/${name}`)?.values || [];
}

async function fill(name) {
  const query = { name: METRICS[name], from: "15m", step: `${STEP}s`, app: "each" };
  try {
    const queries = [query, { ...query, instance: "each" }];
    const answers = await Promise.all(queries.map((one) => get("metrics/query", one)));
    for (const series of answers.flatMap((one) => one.series)) {
      for (const [time, value] of series.points) {
        put(series.app, series.instance, name, Math.floor(time / STEP), value);
      }
    }
    listeners.forEach((told) => told());
  } catch {
    // the sparklines begin now: what is live does not wait for the past
  }
}

// A row that nothing was heard of for the whole time shows nothing any more.
setInterval(() => {
  for (const [key, row] of past) if (row.at < newest - KEPT) past.delete(key);
}, 60_000);
