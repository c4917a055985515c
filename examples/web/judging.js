// A loaded model: from the pixels of an image to its verdict.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { referenceOf, warningsOf } from "./comparable.js";
import {
  frameSize, inputSize, inspectedOf, metadataOf, probe, Refusal, selfTestDifference, verified,
} from "./model-file.js";
import { findRegions } from "./regions.js";
import { pixelsOf, prepare } from "./resize.js";

const OUTPUTS = ["score", "anomaly_map", "patch_distance"];

/** Open a model, compare its bytes with their digests, and run its self-test. */
export async function open({ model, data, threads }) {
  const bytes = new Uint8Array(model), constants = data ? new Uint8Array(data) : null, metadata = metadataOf(bytes);
  const whole = await verified(bytes, constants, metadata);
  if (whole === false) throw new Refusal("The model is damaged or changed (its digest does not match). Copy it again.");
  const reference = referenceOf(metadata);
  if (!reference) throw new Refusal("The model does not say how its good images look. Export it again.");
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  const started = performance.now();
  let session;
  try {
    session = await ort.InferenceSession.create(bytes, {
      executionProviders: ["wasm"],
      externalData: constants ? [{ path: metadata.digests.data_file, data: constants }] : undefined,
    });
  } catch (error) {
    throw new Refusal(`onnxruntime-web does not take the model: ${String(error.message ?? error).slice(0, 200)}`);
  }
  const judge = { session, metadata, reference, inspected: inspectedOf(metadata) };
  const { score, map } = await run(judge, probe(inputSize(metadata)));
  const difference = selfTestDifference(score, map, metadata), { tolerance } = metadata.self_test;
  if (!(difference <= tolerance)) {
    await session.release();
    throw new Refusal(
      `The self-test failed: this browser computes other scores (off by ${difference.toExponential(1)}, expected at ` +
        `most ${tolerance.toExponential(0)}). Use a model in fp32.`,
    );
  }
  const milliseconds = performance.now() - started;
  return { judge, about: { whole, difference, milliseconds, threads: ort.env.wasm.numThreads } };
}

async function run({ session, metadata }, data) {
  const [height, width] = inputSize(metadata);
  const image = new ort.Tensor("uint8", data, [1, height, width, 3]);
  const found = await session.run({ image }, OUTPUTS);
  const [score, map, patches] = OUTPUTS.map((name) => found[name].data);
  const [rows, columns] = frameSize(metadata);
  if (map.length !== rows * columns || patches.length !== metadata.grid[0] * metadata.grid[1]) {
    throw new Refusal("The model's outputs are not as its metadata says. Export it again.");
  }
  return { score: score[0], map, patches };
}

/** Judge the pixels of one image: the fields of `padim-edge infer --json` but the p-value, and the map of the frame. */
export async function inspect(judge, image, notes) {
  const { metadata, reference } = judge, { preprocessing } = metadata.method;
  const started = performance.now();
  const frame = prepare(image, preprocessing), resized = performance.now();
  const { score, map, patches } = await run(judge, frame.data), judged = performance.now();
  if (!Number.isFinite(score) || !map.every(Number.isFinite)) {
    throw new Refusal("The model gave distances that are no finite numbers. Run padim-edge verify on it.");
  }
  const warnings = warningsOf(pixelsOf(frame.data, frame.width, frame.height), patches, reference);
  const anomalous = score > metadata.threshold;
  const inspection = {
    score,
    threshold: metadata.threshold,
    anomalous,
    regions: findRegions(map, frameSize(metadata), metadata.threshold, preprocessing, image),
    width: image.width,
    height: image.height,
    milliseconds: Math.round(1e3 * (judged - resized)) / 1e3,
    warnings,
    notes,
    verdict: warnings.length ? "not comparable" : anomalous ? "anomalous" : "good",
  };
  return { inspection, map, preparing: resized - started };
}
