// Regions of the anomaly map above the threshold, in the image's pixels, as `padim_edge_runtime/regions.py` finds them.

import { judgedBox } from "./resize.js";

/** Find the connected regions (8 neighbours) of a map above the threshold, the highest first. */
export function findRegions(map, [height, width], threshold, preprocessing, image) {
  const frame = judgedBox(preprocessing, image.width, image.height);
  const across = frame.width / width, down = frame.height / height;
  const found = [];
  for (const part of parts(map, height, width, threshold)) {
    const x = Math.trunc(frame.left + part.left * across), y = Math.trunc(frame.top + part.top * down);
    const right = Math.min(Math.ceil(frame.left + (part.right + 1) * across), image.width);
    const low = Math.min(Math.ceil(frame.top + (part.low + 1) * down), image.height);
    const area = Math.max(1, roundHalfEven(part.count * across * down));
    const row = Math.floor(part.top_at / width), column = part.top_at % width;
    found.push({
      box: [x, y, right - x, low - y],
      area,
      share: Math.min(area / (image.width * image.height), 1),
      peak: [Math.trunc(frame.left + (column + 0.5) * across), Math.trunc(frame.top + (row + 0.5) * down)],
      score: part.score,
    });
  }
  return found.sort((one, other) => other.score - one.score);
}

/** Round as Python does: halves to the even number. */
function roundHalfEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 ? low + 1 : low;
}

function* parts(map, height, width, threshold) {
  const seen = new Uint8Array(height * width), waiting = [];
  for (let start = 0; start < map.length; start++) {
    if (seen[start] || !(map[start] > threshold)) continue;
    const part = { left: width, right: 0, top: height, low: 0, count: 0, score: -Infinity, top_at: 0 };
    seen[start] = 1;
    waiting.push(start);
    while (waiting.length) {
      const at = waiting.pop(), row = Math.floor(at / width), column = at % width;
      part.count++;
      part.left = Math.min(part.left, column);
      part.right = Math.max(part.right, column);
      part.top = Math.min(part.top, row);
      part.low = Math.max(part.low, row);
      if (map[at] > part.score || (map[at] === part.score && at < part.top_at)) {
        [part.score, part.top_at] = [map[at], at];
      }
      for (let i = Math.max(0, row - 1); i <= Math.min(height - 1, row + 1); i++) {
        for (let j = Math.max(0, column - 1); j <= Math.min(width - 1, column + 1); j++) {
          const next = i * width + j;
          if (!seen[next] && map[next] > threshold) {
            seen[next] = 1;
            waiting.push(next);
          }
        }
      }
    }
    yield part;
  }
}
