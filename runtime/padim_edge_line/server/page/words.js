// Numbers, times and verdicts in words.

/** Each verdict: the word, a symbol that needs no colour, and the class of its colours. */
export const VERDICTS = {
  "good": { word: "Good", symbol: "✓", tone: "good" },
  "anomalous": { word: "Anomalous", symbol: "✕", tone: "bad" },
  "not comparable": { word: "Not comparable", symbol: "?", tone: "doubt" },
  "unreadable": { word: "Unreadable", symbol: "!", tone: "doubt" },
  "failed": { word: "Not judged", symbol: "!", tone: "doubt" },
};

/** Reasons why an image is not comparable with the good ones. */
const WARNINGS = {
  unlike: "Unlike the good images nearly everywhere. Check the product, the view and the lens.",
  shift: "Moved against the good images. Check the camera and the part’s place.",
  turned: "Turned against the good images, or lit from another side. Check the camera and the lamp.",
  exposure: "Brighter, darker or flatter than any good image. Check the light.",
};

export const warning = (code) => WARNINGS[code] ?? code;

export const ALARMS = ["anomalous", "not comparable", "unreadable", "failed"];

export const STATES = {
  starting: { word: "starting", symbol: "…" },
  working: { word: "works", symbol: "✓" },
  failing: { word: "fails", symbol: "!" },
};

/** A score with three significant digits, without an exponent where it can be avoided. */
export function score(value) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3)) return value.toExponential(2);
  return value >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${value >= 10 ? value.toFixed(0) : value.toFixed(1)} ms`;
}

export function share(part, whole) {
  if (!whole) return "–";
  const percent = 100 * part / whole;
  return `${percent === 0 || percent >= 10 ? percent.toFixed(0) : percent.toFixed(1)} %`;
}

export const count = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");

/** How long ago something was, in the two words that matter. */
export function age(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 2) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

const two = (value) => String(value).padStart(2, "0");

/** Clock time; with the day where it is not today. */
export function clock(time, now = Date.now()) {
  const date = new Date(time);
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  if (date.toDateString() === new Date(now).toDateString()) return text;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${text}`;
}
