// The trend of a product: a mark for each score, the threshold as a line.

import { s } from "./dom.js";
import { VERDICTS, clock, score } from "./words.js";

const LEFT = 44, RIGHT = 10, TOP = 14, BOTTOM = 22;

/** Range of the values, and whether steps of ten are shown alike: for scores that span more than a factor of 20. */
export function scaleOf(values) {
  const low = Math.min(...values), high = Math.max(...values);
  const logarithmic = low > 0 && high / low > 20;
  if (logarithmic) return { logarithmic, low: low / 1.2, high: high * 1.2 };
  const bottom = low >= 0 ? 0 : low * 1.1;
  return { logarithmic, low: bottom, high: high > bottom ? high + 0.12 * (high - bottom) : bottom + 1 };
}

function ticks({ logarithmic, low, high }) {
  const found = [];
  if (logarithmic) {
    for (let power = Math.ceil(Math.log10(low)); power <= Math.log10(high); power++) found.push(10 ** power);
    return found;
  }
  const raw = (high - low) / 3;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = unit * ([1, 2, 5, 10].find((each) => each * unit >= raw) ?? 10);
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(value);
  return found;
}

const SHAPES = {
  good: (x, y) => s("circle", { cx: x, cy: y, r: 2.6 }),
  bad: (x, y) => s("path", { d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8` }),
  doubt: (x, y) => s("path", { d: `M${x} ${y - 4.5}l4.5 4.5l-4.5 4.5l-4.5 -4.5z` }),
};

/**
 * Draw the trend into a drawing.
 *
 * @param {SVGElement} svg The drawing; its size on the page is its coordinate system.
 * @param {Array} trend Rows as `[seq, ms, score, threshold, verdict]`, the oldest first.
 */
export function draw(svg, trend) {
  const width = Math.round(svg.clientWidth) || 300, height = Math.round(svg.clientHeight) || 120;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const shown = trend.filter((each) => each[2] !== null);
  if (!shown.length) {
    svg.setAttribute("aria-label", "No scores yet");
    svg.replaceChildren(s("text", { x: width / 2, y: height / 2, class: "axis", "text-anchor": "middle" }, "no scores yet"));
    return;
  }
  const thresholds = shown.map((each) => each[3]).filter((each) => each !== null);
  const scale = scaleOf([...shown.map((each) => each[2]), ...thresholds]);
  const map = scale.logarithmic ? Math.log : (value) => value;
  const span = map(scale.high) - map(scale.low);
  const Y = (value) => height - BOTTOM - (map(Math.max(value, scale.low)) - map(scale.low)) / span * (height - TOP - BOTTOM);
  const X = (index) => shown.length === 1 ? width - RIGHT : LEFT + index / (shown.length - 1) * (width - LEFT - RIGHT);
  const parts = [];
  for (const tick of ticks(scale)) {
    const y = Y(tick);
    parts.push(s("line", { x1: LEFT, x2: width - RIGHT, y1: y, y2: y, class: "grid" }));
    parts.push(s("text", { x: LEFT - 6, y: y + 4, class: "axis", "text-anchor": "end" }, score(tick)));
  }
  let path = "";
  shown.forEach((each, index) => {
    if (each[3] === null) return;
    const y = Y(each[3]).toFixed(1);
    path += path ? `L${X(index).toFixed(1)} ${y}` : `M${LEFT} ${y}L${X(index).toFixed(1)} ${y}`;
  });
  if (path) parts.push(s("path", { d: path, class: "threshold" }));
  shown.forEach((each, index) => {
    const tone = VERDICTS[each[4]]?.tone ?? "doubt";
    const mark = SHAPES[tone](Math.round(X(index) * 10) / 10, Math.round(Y(each[2]) * 10) / 10);
    mark.setAttribute("class", `mark ${tone}${index === shown.length - 1 ? " latest" : ""}`);
    parts.push(mark);
  });
  if (thresholds.length) {
    const last = thresholds[thresholds.length - 1];
    const y = Y(last);
    const label = s("text", { x: LEFT + 6, y: y > TOP + 16 ? y - 5 : y + 14, class: "threshold-label" },
      `threshold ${score(last)}`);
    parts.push(label);
  }
  parts.push(s("text", { x: LEFT, y: height - 6, class: "axis" }, clock(shown[0][1])));
  parts.push(s("text", { x: width - RIGHT, y: height - 6, class: "axis", "text-anchor": "end" },
    clock(shown[shown.length - 1][1])));
  svg.replaceChildren(...parts);
  const above = shown.filter((each) => each[4] !== "good").length;
  svg.setAttribute("aria-label",
    `Scores of the last ${shown.length} images, ${above} of them alarms; the last one ${score(shown[shown.length - 1][2])}`
    + (thresholds.length ? `, threshold ${score(thresholds[thresholds.length - 1])}` : ""));
}
