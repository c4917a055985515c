// From an encoded image to its pixels. The browser decodes: PNG to the pixels of Pillow, other formats to nearly those.

import { Refusal } from "./model-file.js";
import { pixelsOf } from "./resize.js";

const MOST_PIXELS = 100e6;
const LEAST_SIDE = 8, MOST_SIDE = 32767;
const MOST_ASPECT = 1000;
const DEPTH_AT = 24;

/** Decode an image file as the runtime does: turned upright, without colour management. */
export async function decode(blob) {
  const head = new Uint8Array(await blob.slice(0, DEPTH_AT + 1).arrayBuffer());
  if (String.fromCharCode(...head.subarray(1, 4)) === "PNG" && head[DEPTH_AT] === 16) {
    throw new Refusal("The image has 16 bits a channel, of which a browser gives 8. Judge it with padim-edge infer.");
  }
  try {
    return await createImageBitmap(blob, {
      colorSpaceConversion: "none",
      imageOrientation: "from-image",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Refusal("The browser cannot decode this file, expected an image such as PNG or JPEG. Save it as PNG.");
  }
}

/** Read the pixels of a decoded image, and say what was changed on the way. */
export function read(bitmap) {
  const { width, height } = bitmap, long = Math.max(width, height), said = `The image has ${width}×${height} pixels`;
  if (Math.min(width, height) < LEAST_SIDE) throw new Refusal(`${said}, expected at least ${LEAST_SIDE} a side.`);
  if (width * height > MOST_PIXELS || long > Math.min(MOST_SIDE, MOST_ASPECT * Math.min(width, height))) {
    throw new Refusal(`${said}, expected at most 100 million and ${MOST_SIDE} a side. Cut or shrink it.`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Refusal("The browser has not enough memory for an image of this size. Cut or shrink it.");
  context.drawImage(bitmap, 0, 0);
  const { data: from } = context.getImageData(0, 0, width, height), data = new Uint8Array(width * height * 3);
  let opaque = 255;
  for (let at = 0, to = 0; at < from.length; at += 4, to += 3) {
    data[to] = from[at];
    data[to + 1] = from[at + 1];
    data[to + 2] = from[at + 2];
    opaque &= from[at + 3];
  }
  const notes = opaque === 255 ? [] : ["transparency was dropped; the browser blackens what is fully transparent"];
  return { image: pixelsOf(data, width, height), notes };
}

/** Tell whether the browser gives pixels back as they were drawn. Some change them against the tracking of users. */
export function readsTrue() {
  const context = new OffscreenCanvas(32, 32).getContext("2d", { willReadFrequently: true });
  const drawn = context.createImageData(32, 32);
  for (let k = 0; k < drawn.data.length; k++) drawn.data[k] = k % 4 === 3 ? 255 : (k * 73) % 251;
  context.putImageData(drawn, 0, 0);
  return context.getImageData(0, 0, 32, 32).data.every((each, k) => each === drawn.data[k]);
}
