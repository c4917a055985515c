// The page's side of the worker: one question, one promise.

import { Refusal } from "./model-file.js";

/** Start a worker, which holds one model. */
export function start() {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const waiting = new Map();
  let number = 0;
  const end = (reason) => {
    for (const { reject } of waiting.values()) reject(new Refusal(reason));
    waiting.clear();
  };
  worker.addEventListener("message", ({ data: { id, result, refused } }) => {
    const { resolve, reject } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (refused === undefined) resolve?.(result);
    else reject?.(new Refusal(refused));
  });
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    end("onnxruntime-web is not beside the page (run npm install there), or the browser is too old for it.");
  });
  const ask = (task, given, moved = []) =>
    new Promise((resolve, reject) => {
      waiting.set(++number, { resolve, reject });
      worker.postMessage({ id: number, task, given }, moved);
    });
  return {
    /** Load a model: `model` and `data` are buffers, `data` may be null. */
    load: (given) => ask("load", given),
    /** Judge an encoded image (`blob`) or a decoded one (`bitmap`). */
    judge: (given) => ask("judge", given, given.bitmap ? [given.bitmap] : []),
    stop() {
      worker.terminate();
      end("Another model was chosen.");
    },
  };
}
