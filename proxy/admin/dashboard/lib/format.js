// Figures and times for people; the same words and units as the command prints. What is not known is "–".

const NONE = "–";
const DAY = 86_400;
const clockTime = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const monthDay = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const withYear = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

const FIGURES = [0, 1, 2, 3].map((places) => new Intl.NumberFormat("en", { maximumFractionDigits: places }));

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** Two figures at least, with thousands, no ".0": 0.3, 9.8, 42, 1,912. */
function short(value) {
  const size = Math.abs(value);
  return FIGURES[size < 0.095 ? 2 : size < 9.95 ? 1 : 0].format(value);
}

/** A duration given in milliseconds: "0.3 ms", "689 ms", "9.8 s". */
export function ms(value) {
  if (!known(value)) return NONE;
  return Math.abs(value) < 999.5 ? `${short(value)} ms` : seconds(value / 1000);
}

/** A duration given in seconds: "12 s", "18 min", "5 h", "2 days". */
export function seconds(value) {
  if (!known(value)) return NONE;
  if (value < 0) return `-${seconds(-value)}`;
  if (value < 0.9995) return `${short(value * 1000)} ms`;
  if (value < 99.5) return `${value < 59.95 ? short(value) : value.toFixed(0)} s`;
  if (value < 99.5 * 60) return `${(value / 60).toFixed(0)} min`;
  if (value < 47.5 * 3600) return `${(value / 3600).toFixed(0)} h`;
  return `${FIGURES[0].format(value / DAY)} days`;
}

/** A size, in decimal units: "1,912 bytes", "512 MB", "5.2 GB". */
export function bytes(value) {
  if (!known(value)) return NONE;
  if (value < 0) return `-${bytes(-value)}`;
  if (value < 9999.5) return `${short(Math.round(value))} byte${Math.round(value) === 1 ? "" : "s"}`;
  for (const [unit, length] of [["KB", 1e3], ["MB", 1e6], ["GB", 1e9]]) {
    if (value < 999.5 * length) return `${short(value / length)} ${unit}`;
  }
  return `${short(value / 1e12)} TB`;
}

/** A whole number: "65,000". */
export function count(value) {
  return known(value) ? FIGURES[0].format(value) : NONE;
}

/** How many a second: "88", "0.4", "0". */
export function rate(value) {
  return known(value) ? short(value) : NONE;
}

/** A ratio: "20 %", "0.4 %". */
export function percent(value) {
  return known(value) ? `${short(value * 100)} %` : NONE;
}

/** Cores of CPU: "0.31", "0.008". */
export function cores(value) {
  return known(value) ? FIGURES[value < 0.095 ? 3 : 2].format(value) : NONE;
}

const date = (time) => (time instanceof Date ? time : new Date(typeof time === "number" ? time * 1000 : time));

/** Time of day, local: "03:07:41", after the day when it is not today, and its year in another one. Takes ISO, Unix
 * seconds or Date. */
export function clock(time) {
  if (time === null || time === undefined || time === "") return NONE;
  const at = date(time);
  const now = new Date();
  if (at.toDateString() === now.toDateString()) return clockTime.format(at);
  const day = at.getFullYear() === now.getFullYear() ? monthDay : withYear;
  return `${day.format(at)} ${clockTime.format(at)}`;
}

/** How long ago: "12 s ago", "just now". */
export function ago(time, now = Date.now()) {
  if (time === null || time === undefined || time === "") return NONE;
  const passed = (now - date(time).getTime()) / 1000;
  return passed < 1 ? "just now" : `${seconds(Math.floor(passed))} ago`;
}

/** The whole local time with its offset, for a title: "2026-01-05 03:07:41.000 +01:00". */
export function stamp(time) {
  if (time === null || time === undefined || time === "") return "";
  const at = date(time);
  const offset = -at.getTimezoneOffset();
  const local = new Date(at.getTime() + offset * 60_000).toISOString().slice(0, 23).replace("T", " ");
  const minutes = Math.abs(offset);
  const pad = (value) => String(value).padStart(2, "0");
  return `${local} ${offset < 0 ? "-" : "+"}${pad(Math.floor(minutes / 60))}:${pad(minutes % 60)}`;
}

const UNITS = { bytes, seconds, ms, cores, ratio: percent };

/** How to write a value of a metric's unit: with it for sizes and times, else the bare figure. */
export function inUnit(unit = "") {
  if (unit === "bytes/s") return (value) => (known(value) ? `${bytes(value)}/s` : NONE);
  return UNITS[unit] || rate;
}

/** A name as it can be told apart by eye: what would not be seen, or would turn the text around, is spelled out. */
export function visible(name) {
  return String(name ?? "").replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}]/gu,
    (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`);
}
