// What a model file says about itself: the JSON object in the properties of the ONNX file, its digests, its self-test.
// docs/file-format.md is the contract. No library is needed: only the outermost fields of the file are read.

import { INTERPOLATIONS } from "./resize.js";

const KEY = "padim_edge";
const FORMAT = 2;
/** Field number of the properties in onnx.proto3. */
const PROPERTIES = 14;
const MOST_METADATA = 16 << 20;
const DIGITS = 64;
const MOST_SIDE = 16384;
const MOST_FRAME = 2 ** 25, MOST_CAMERA = 2 ** 27;

/** Something that the user can act on, in one sentence. */
export class Refusal extends Error {}

/** Yield the length-delimited fields of a protobuf message, without a copy. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0, factor = 1;
    for (let digits = 0; digits < 10 && at < bytes.length; digits++) {
      const digit = bytes[at++];
      value += (digit & 127) * factor;
      if (digit < 128) return value;
      factor *= 128;
    }
    throw new Refusal("This is no ONNX file, or it is cut short. Choose a .onnx file that padim-edge wrote.");
  };
  while (at < bytes.length) {
    const tag = varint(), kind = tag % 8;
    const length = kind === 0 ? (varint(), 0) : kind === 1 ? 8 : kind === 5 ? 4 : kind === 2 ? varint() : -1;
    if (length < 0 || at + length > bytes.length) {
      throw new Refusal("This is no ONNX file, or it is cut short. Choose a .onnx file that padim-edge wrote.");
    }
    if (kind === 2) yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
    at += length;
  }
}

function properties(bytes) {
  const found = new Map(), text = new TextDecoder();
  for (const [number, content] of fields(bytes)) {
    if (number !== PROPERTIES) continue;
    if (content.length > MOST_METADATA) throw new Refusal("The model's metadata exceeds 16 MiB. Export it again.");
    const entry = new Map(fields(content));
    found.set(text.decode(entry.get(1) ?? new Uint8Array()), text.decode(entry.get(2) ?? new Uint8Array()));
  }
  return found;
}

const side = (value) => Number.isInteger(value) && value >= 1 && value <= MOST_SIDE;
const size = (value) => Array.isArray(value) && value.length === 2 && value.every(side);
const distance = (value) => typeof value === "number" && value >= 0 && value <= 3.4e38;
const plain = (name) => typeof name === "string" && /^(?!\.{1,2}$)[^/\\\p{Cc}]{1,255}$/u.test(name);

/** Say which field is not as the page needs it; nothing for a sound object. */
function wrong(metadata) {
  const { method, digests, grid, reference, roi, self_test: test } = metadata;
  const way = method?.preprocessing;
  if (!size(way?.resize) || way.resize[0] * way.resize[1] > MOST_FRAME) return "method.preprocessing.resize";
  if (way.crop && !(size(way.crop) && way.crop.every((each, axis) => each <= way.resize[axis]))) return "crop";
  if (way.camera && (!size(way.camera) || way.camera[0] * way.camera[1] > MOST_CAMERA)) return "camera";
  if (!INTERPOLATIONS.includes(way.interpolation)) return "interpolation";
  if (!size(grid) || grid.some((each, axis) => each > (way.crop ?? way.resize)[axis])) return "grid";
  if (!distance(metadata.threshold)) return "threshold";
  if (!reference || ![reference.brightness, reference.contrast].every((each) => each?.length === 2)) return "reference";
  if (!Array.isArray(test?.map_samples) || !distance(test.score) || !(test.tolerance > 0)) return "self_test";
  if (typeof digests?.model !== "string" || (digests.data_file && !plain(digests.data_file))) return "digests";
  const [height, width] = way.crop ?? way.resize;
  const sum = (runs) => runs.reduce((total, each) => (Number.isInteger(each) && each >= 0 ? total + each : NaN), 0);
  if (roi && (!Array.isArray(roi) || sum(roi) !== height * width)) return "roi";
  return null;
}

/** Read the metadata of a model file. */
export function metadataOf(bytes) {
  const text = properties(bytes).get(KEY);
  if (text === undefined) {
    throw new Refusal("This ONNX file carries no padim-edge metadata. Choose a model that padim-edge export wrote.");
  }
  let metadata;
  try {
    metadata = JSON.parse(text);
  } catch {
    throw new Refusal("The model's metadata is no JSON. The file is damaged; copy it again.");
  }
  if (metadata?.format_version !== FORMAT) {
    throw new Refusal(
      `The model has format version ${Number(metadata?.format_version)}, this page reads version ${FORMAT}. ` +
        "Export the model again, or use the page of its own release.",
    );
  }
  const field = wrong(metadata);
  if (field) throw new Refusal(`The model's field ${field} is outside its limits. Export the model again.`);
  return metadata;
}

const hex = (buffer) => Array.from(new Uint8Array(buffer), (each) => each.toString(16).padStart(2, "0")).join("");
const sha256 = async (bytes) => hex(await crypto.subtle.digest("SHA-256", bytes));

/** Tell whether the bytes are those that padim-edge wrote; `null` where the browser has no digests (plain http). */
export async function verified(model, data, { digests }) {
  if (!globalThis.crypto?.subtle) return null;
  const digits = new TextEncoder().encode(digests.model), blank = model.slice();
  const at = lastIndexOf(blank, digits);
  if (digits.length !== DIGITS || at < 0) return false;
  blank.fill("0".charCodeAt(0), at, at + DIGITS);
  if ((await sha256(blank)) !== digests.model) return false;
  return !digests.data_file || (await sha256(data)) === digests.data;
}

function lastIndexOf(bytes, wanted) {
  for (let at = bytes.lastIndexOf(wanted[0]); at >= 0; at = at ? bytes.lastIndexOf(wanted[0], at - 1) : -1) {
    if (wanted.every((each, k) => bytes[at + k] === each)) return at;
  }
  return -1;
}

/** Height and width of the graph's input. */
export const inputSize = ({ method: { preprocessing: way } }) => way.camera ?? way.crop ?? way.resize;

/** Height and width of the model's frame and of its map. */
export const frameSize = ({ method: { preprocessing: way } }) => way.crop ?? way.resize;

/** Draw the image of the self-test, as `padim_edge_artifact.self_test` does. */
export function probe([height, width]) {
  const data = new Uint8Array(height * width * 3);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++, at++) {
        const ramp = Math.floor((y * (channel + 1) + x * (3 - channel)) / 5) % 128;
        const grating = (Math.floor((y + x * (channel + 2)) / 8) % 2) * 64;
        data[at] = ramp + grating + (((y * 73856093 + x * 19349663 + channel * 83492791) % 1000003) % 64);
      }
    }
  }
  return data;
}

/** Largest relative difference between an answer to the probe and the one in the metadata. */
export function selfTestDifference(score, map, metadata) {
  const [height, width] = frameSize(metadata), { self_test: wanted } = metadata;
  const along = (length) => [0, 1, 2, 3].map((step) => Math.trunc(step * (length - 1) / 3));
  const samples = along(height).flatMap((y) => along(width).map((x) => map[y * width + x]));
  const pairs = [[score, wanted.score], ...samples.map((value, k) => [value, wanted.map_samples[k]])];
  const off = pairs.map(([value, expected]) => Math.abs(value - expected) / Math.max(Math.abs(expected), 1e-6));
  return off.some(Number.isNaN) ? Infinity : Math.max(...off);
}

/** Decode the region of interest: one byte per pixel of the frame, 1 inside; `null` where everything is inspected. */
export function inspectedOf(metadata) {
  if (!metadata.roi) return null;
  const [height, width] = frameSize(metadata), mask = new Uint8Array(height * width);
  let at = 0;
  metadata.roi.forEach((length, k) => {
    if (k % 2) mask.fill(1, at, at + length);
    at += length;
  });
  return mask.every(Boolean) ? null : mask;
}
