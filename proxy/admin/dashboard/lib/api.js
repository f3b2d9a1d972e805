// The admin API: questions, acts, and streams that go on by themselves after a lost connection.

const BASE = "/api/v1/";
const SILENT_MS = 40_000; // a stream says every 15 s that it lives
const PATIENCE_MS = 70_000; // a call that waits for an operation takes up to 60 s

const heardUnauthorized = new Set();

/** Call `then` whenever the API says that nobody is logged in. Answers a function that ends it. */
export function onUnauthorized(then) {
  heardUnauthorized.add(then);
  return () => heardUnauthorized.delete(then);
}

/** What the API refused, or that it did not answer (status 0), with what to do about it. */
export class ApiError extends Error {
  constructor(status, document) {
    super(document.title || `Triage answered ${status}`);
    this.status = status;
    this.title = this.message;
    this.detail = document.detail || "";
    this.hint = document.hint || "";
    this.document = document;
  }
}

/** JSON of `path` below /api/v1. In `query`, what is null, undefined or "" is left out. Throws ApiError. */
export function get(path, query, signal) {
  return call("GET", address(path, query), undefined, signal);
}

/** Do something: JSON in, JSON out. Throws ApiError. */
export function post(path, body = {}) {
  return call("POST", address(path), body);
}

/** Take something away for good. Throws ApiError. */
export function remove(path, query) {
  return call("DELETE", address(path, query));
}

/**
 * Begin something whose answer is a stream of server-sent events: `handlers[kind](data)` for each. The promise ends with
 * the stream. Throws ApiError; an aborted `signal` throws as fetch does.
 */
export async function run(path, body, handlers, signal) {
  const headers = { Accept: "text/event-stream", "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(address(path), { method: "POST", headers, body: JSON.stringify(body), signal, credentials: "same-origin" });
  } catch (error) {
    throw signal?.aborted ? error : unreachable(error);
  }
  if (!response.ok) throw refused(response.status, parsed(await response.text()));
  try {
    await read(response.body, () => {}, (kind, data) => handlers[kind]?.(JSON.parse(data)));
  } catch (error) {
    if (signal?.aborted || error instanceof SyntaxError) throw error;
    throw new ApiError(0, { title: "The connection was lost", detail: "What ran was ended with it." });
  }
}

/**
 * A call that is not JSON both ways, for files: `{status, header(name), text, content}`. `progress(sent, all)` in
 * bytes while `body` goes up. Throws ApiError, whose `status` says why (412: it is another by now).
 */
export function send(method, path, { headers = {}, body = null, query, type = "", progress, signal } = {}) {
  return new Promise((done, failed) => {
    const asked = new XMLHttpRequest();
    asked.open(method, address(path, query));
    asked.responseType = type;
    for (const [name, value] of Object.entries(headers)) asked.setRequestHeader(name, value);
    if (progress) asked.upload.onprogress = (event) => progress(event.loaded, event.total);
    asked.onload = () => {
      const text = type ? "" : asked.responseText;
      if (asked.status >= 200 && asked.status < 300) {
        done({ status: asked.status, header: (name) => asked.getResponseHeader(name), text, content: asked.response });
      } else {
        const words = type === "arraybuffer" ? new TextDecoder().decode(asked.response) : text;
        failed(refused(asked.status, parsed(words)));
      }
    };
    asked.onerror = () => failed(unreachable({}));
    asked.onabort = () => failed(new ApiError(0, { title: "Cancelled" }));
    signal?.addEventListener("abort", () => asked.abort());
    asked.send(body);
  });
}

/** Log in with a token; the cookie does the rest. Throws ApiError. */
export function login(token) {
  return call("POST", "/login", { token });
}

/** End the login of this browser. */
export function logout() {
  return call("POST", "/logout", {});
}

/** The address of what a link or a frame asks for itself. */
export function urlOf(path, query) {
  return address(path, query);
}

function address(path, query = {}) {
  const found = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(found).toString();
  return BASE + path.replace(/^\/+/, "") + (text ? `?${text}` : "");
}

/** Encode the segments of a path: names of apps and instances may hold anything. */
export function pathOf(...segments) {
  return segments.map(encodeURIComponent).join("/");
}

async function call(method, url, body, signal) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const given = body === undefined ? undefined : JSON.stringify(body);
  let response, text;
  try {
    const limit = AbortSignal.timeout(PATIENCE_MS);
    const both = signal && AbortSignal.any ? AbortSignal.any([signal, limit]) : signal || limit;
    response = await fetch(url, { method, headers, body: given, signal: both, credentials: "same-origin" });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable(error);
  }
  const document = parsed(text);
  if (response.ok) return document;
  throw refused(response.status, document);
}

function unreachable(error) {
  return new ApiError(0, {
    title: "Triage does not answer",
    detail: error.name === "TimeoutError" ? "Nothing came within 70 s." : "The connection to its admin address failed.",
    hint: "It may be restarting; this page tries again. If it goes on: triage status on its machine.",
  });
}

function refused(status, document) {
  if (status === 401) heardUnauthorized.forEach((then) => then());
  return new ApiError(status, document || {});
}

function parsed(text) {
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    return { title: "The answer is not JSON", detail: text.slice(0, 200) };
  }
}

/**
 * Follow a stream of server-sent events: `handlers[kind](data, id)` for each message, `handlers.onState("open" |
 * "waiting", error)` when it is connected or lost. It goes on after the last message that came, and rests while the
 * page is not visible. Answers a function that ends it.
 */
export function follow(path, query, handlers) {
  let last = "", ended = false, stop = null, timer = 0, pause = 1000;

  async function run() {
    const controller = (stop = new AbortController());
    let silence = 0;
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => controller.abort(), SILENT_MS);
    };
    let failed = null;
    try {
      alive();
      const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      const url = address(path, { ...query, follow: "true" });
      const response = await fetch(url, { headers, signal: controller.signal, credentials: "same-origin" });
      if (!response.ok) throw refused(response.status, parsed(await response.text()));
      handlers.onState?.("open");
      pause = 1000;
      await read(response.body, alive, (kind, data, id) => {
        if (id) last = id;
        if (!ended && !controller.signal.aborted) handlers[kind]?.(JSON.parse(data), id);
      });
    } catch (error) {
      failed = error instanceof ApiError ? error : unreachable(error);
    } finally {
      clearTimeout(silence);
    }
    if (ended || document.hidden) return;
    handlers.onState?.("waiting", failed);
    if (failed?.status === 401) return;
    timer = setTimeout(run, pause * (0.8 + Math.random() * 0.4));
    pause = Math.min(pause * 2, 10_000);
  }

  function seen() {
    clearTimeout(timer);
    if (document.hidden) stop?.abort();
    else run();
  }

  document.addEventListener("visibilitychange", seen);
  if (!document.hidden) run();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
    stop?.abort();
  };
}

async function read(body, alive, told) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    const messages = (rest + value).replace(/\r\n/g, "\n").split("\n\n");
    rest = messages.pop();
    for (const message of messages) {
      const fields = { event: "message", id: "", data: "" };
      for (const line of message.split("\n")) {
        const at = line.indexOf(":");
        const value = line.slice(at + 1).replace(/^ /, "");
        if (at > 0) fields[line.slice(0, at)] = fields.data && line.startsWith("data:") ? `${fields.data}\n${value}` : value;
      }
      if (fields.data) told(fields.event, fields.data, fields.id);
      else if (fields.id) told("", "null", fields.id);
    }
  }
}
