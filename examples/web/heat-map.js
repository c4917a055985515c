// The anomaly map over the image, in the colours of `padim_edge_runtime/overlay.py`: they are tied to the threshold,
// so a good image looks calm and the same colour means the same distance everywhere.

import { judgedBox } from "./resize.js";

/** Map values in units of the threshold; red, green, blue and opacity at each. */
const STOPS = [0.5, 0.8, 1.0, 1.3, 2.0];
const COLOURS = [[20, 60, 190, 0], [0, 150, 200, 0.35], [255, 210, 0, 0.45], [255, 110, 0, 0.6], [220, 0, 20, 0.75]];
/** Brightness of pixels that the model did not look at. */
const UNSEEN = 0.55;
/** Colours are taken from a table with so many steps for one threshold. */
const STEPS = 512;

const TABLE = Array.from({ length: 2 * STEPS + 1 }, (_, k) => colourAt(k / STEPS));

function colourAt(level) {
  if (level <= STOPS[0]) return COLOURS[0];
  const above = STOPS.findIndex((stop) => stop >= level);
  if (above < 0) return COLOURS.at(-1);
  const part = (level - STOPS[above - 1]) / (STOPS[above] - STOPS[above - 1]);
  return COLOURS[above].map((each, k) => COLOURS[above - 1][k] + part * (each - COLOURS[above - 1][k]));
}

/** Places between which each pixel of a side lies in the map: the lower one, and the share of the next. */
function places(pixels, image, left, length, cells) {
  const at = new Int32Array(pixels), next = new Int32Array(pixels), share = new Float32Array(pixels);
  for (let k = 0; k < pixels; k++) {
    const place = (((k + 0.5) * image) / pixels - left) * (cells / length);
    if (place < 0 || place >= cells) {
      at[k] = -1; // outside of the model's frame
      continue;
    }
    const low = Math.floor(place - 0.5);
    at[k] = Math.max(0, low);
    next[k] = Math.min(cells - 1, low + 1);
    share[k] = place - 0.5 - low;
  }
  return { at, next, share };
}

/**
 * Draw a map over shown pixels, in place.
 *
 * shown: RGBA pixels (`ImageData`) of the image, perhaps smaller than that. image: its true width and height.
 * judged: `map`, its `size`, the `threshold`, `inspected` (a mask or null), `regions` and the `preprocessing`.
 */
export function drawMap(shown, image, { map, size: [height, width], threshold, inspected, preprocessing }) {
  const frame = judgedBox(preprocessing, image.width, image.height);
  const columns = places(shown.width, image.width, frame.left, frame.width, width);
  const rows = places(shown.height, image.height, frame.top, frame.height, height);
  const unit = STEPS / Math.max(threshold, 1e-6);
  for (let y = 0, to = 0; y < shown.height; y++) {
    const up = rows.at[y] * width, low = rows.next[y] * width, down = rows.share[y];
    for (let x = 0; x < shown.width; x++, to += 4) {
      const left = columns.at[x], right = columns.next[x], across = columns.share[x];
      const inside = rows.at[y] >= 0 && left >= 0;
      const share = !inside || !inspected ? 1 : between(inspected, up, low, left, right, down, across);
      if (!inside || share < 0.5) {
        for (let channel = 0; channel < 3; channel++) shown.data[to + channel] *= UNSEEN;
        continue;
      }
      const value = between(map, up, low, left, right, down, across) / share; // the map is 0 outside of the region
      const [red, green, blue, opacity] = TABLE[Math.max(0, Math.min(2 * STEPS, Math.round(value * unit)))];
      if (opacity === 0) continue;
      shown.data[to] += (red - shown.data[to]) * opacity;
      shown.data[to + 1] += (green - shown.data[to + 1]) * opacity;
      shown.data[to + 2] += (blue - shown.data[to + 2]) * opacity;
    }
  }
}

function between(plane, up, low, left, right, down, across) {
  const upper = plane[up + left] * (1 - across) + plane[up + right] * across;
  const lower = plane[low + left] * (1 - across) + plane[low + right] * across;
  return upper * (1 - down) + lower * down;
}

/** Draw the corners of each region: they show where it is and hide little of what is in it. */
export function drawCorners(context, regions, scale) {
  const width = Math.max(1.5, Math.min(context.canvas.width, context.canvas.height) / 240);
  for (const [colour, wide] of [["rgb(0 0 0 / .65)", 2.2 * width], ["#fff", width]]) {
    context.strokeStyle = colour;
    context.lineWidth = wide;
    context.beginPath();
    for (const { box: [x, y, across, down] } of regions) {
      const left = x * scale, top = y * scale, right = (x + across) * scale, low = (y + down) * scale;
      const arm = Math.max(4, Math.min(right - left, low - top) / 4);
      for (const [from, sideways] of [[left, arm], [right, -arm]]) {
        for (const [start, inward] of [[top, arm], [low, -arm]]) {
          context.moveTo(from + sideways, start);
          context.lineTo(from, start);
          context.lineTo(from, start + inward);
        }
      }
    }
    context.stroke();
  }
}
