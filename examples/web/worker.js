// Decodes, judges and draws, apart from the page, which stays at hand meanwhile. No image is sent anywhere.

import { decode, read, readsTrue } from "./decoding.js";
import { drawCorners, drawMap } from "./heat-map.js";
import { inspect, open } from "./judging.js";
import { frameSize, Refusal } from "./model-file.js";

/** Longest side in pixels of what is shown. */
const SHOWN = 1600;

let judge = null;

const tasks = {
  async load(given) {
    const { judge: opened, about } = await open(given);
    judge = opened;
    return [{ ...about, exact: readsTrue() }, []];
  },

  async judge({ blob, bitmap, levels }) {
    const decoded = bitmap ?? (await decode(blob));
    try {
      const { image, notes } = read(decoded);
      if (levels) notes.unshift("8 bits a pixel, taken from 0 to 255, where the good images had more");
      const { inspection, map, preparing } = await inspect(judge, image, notes);
      const pictures = drawn(decoded, inspection, map);
      return [{ inspection, map, preparing, ...pictures }, [map.buffer, ...Object.values(pictures)]];
    } finally {
      decoded.close();
    }
  },
};

/** Draw the image as it is and with its heat map. */
function drawn(bitmap, { regions, threshold, width, height }, map) {
  const scale = Math.min(1, SHOWN / Math.max(width, height));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const shown = context.getImageData(0, 0, canvas.width, canvas.height);
  const plain = canvas.transferToImageBitmap();
  const { metadata, inspected } = judge, { preprocessing } = metadata.method;
  drawMap(shown, { width, height }, { map, size: frameSize(metadata), threshold, inspected, preprocessing });
  context.putImageData(shown, 0, 0);
  drawCorners(context, regions, scale);
  return { plain, heat: canvas.transferToImageBitmap() };
}

addEventListener("message", async ({ data: { id, task, given } }) => {
  try {
    const [result, moved] = await tasks[task](given);
    postMessage({ id, result }, moved);
  } catch (error) {
    const said = error?.message ?? error;
    postMessage({ id, refused: error instanceof Refusal ? said : `Something unexpected went wrong: ${said}` });
  }
});
