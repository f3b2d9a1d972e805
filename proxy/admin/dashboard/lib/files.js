// Files of the console: what Triage lets one see below its roots. A place is a path as an address has it, "web/a%20b.log",
// since a name may hold anything; a folder's ends with "/", and "" is the list of roots.
import { get, send, urlOf } from "./api.js";

/** The place of what has this name in the folder `at`. */
export const placeIn = (at, name, folder = false) => at + encodeURIComponent(name) + (folder ? "/" : "");

/** A place's last name, or a whole path, as text. */
export function nameOf(place) {
  const name = place.replace(/\/$/, "").split("/").at(-1);
  return textOf(name) ?? name;
}

function textOf(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return null; // its bytes are no text
  }
}

/** Items of a folder, a page of them; `name` is their name as it is, where it is text. */
export async function list(place, cursor, signal) {
  const found = await get(`vfs/${place}`, { cursor }, signal);
  return { ...found, items: found.items.map((one) => ({ ...one, name: textOf(one.id) ?? one.name })) };
}

/** Where a browser gets a file, or a folder as a zip. */
export function addressOf(place) {
  return place.endsWith("/") ? urlOf(`zip/${place}`) : urlOf(`vfs/${place}`);
}

/** The tag of what is there now; "" where nothing is. Throws ApiError. */
export async function tagOf(place) {
  try {
    return (await send("HEAD", `vfs/${place}`)).header("ETag") || "";
  } catch (error) {
    if (error.status === 404) return "";
    throw error;
  }
}

/** A file's bytes and tag. Throws ApiError. */
export async function read(place) {
  const { content, header } = await send("GET", `vfs/${place}`, { type: "arraybuffer" });
  return { bytes: new Uint8Array(content), tag: header("ETag") || "" };
}

/** Write a file: a new one, or where `tag` is given the one that has it. Throws ApiError: 412, it is another by now. */
export async function write(place, body, { tag = "", progress, signal } = {}) {
  const headers = { "Content-Type": "application/octet-stream", ...(tag && { "If-Match": tag }) };
  return (await send("PUT", `vfs/${place}`, { headers, body, progress, signal })).header("ETag") || "";
}

/** Make a folder. Throws ApiError. */
export function makeFolder(place) {
  return send("PUT", `vfs/${place}`);
}

/** Take a file away, or a folder with all that is in it. Throws ApiError: 412, it is another by now. */
export function takeAway(place, tag) {
  const folder = place.endsWith("/");
  const query = folder ? { recursive: "true" } : {};
  return send("DELETE", `vfs/${place}`, { query, headers: folder ? {} : { "If-Match": tag || "*" } });
}

/** Unpack a zip over a folder. Throws ApiError. */
export async function unpack(place, file, { progress, signal } = {}) {
  const headers = { "Content-Type": "application/zip" };
  const { text } = await send("PUT", `zip/${place}`, { headers, body: file, progress, signal });
  return text ? JSON.parse(text) : null;
}
