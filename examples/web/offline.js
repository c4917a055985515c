// Service worker: the newest files while the server answers, and the last ones known without it.

const CACHE = "padim-edge-web-1";

/** What the page consists of, fetched as soon as it was opened once. Models are kept when they are used. */
const FILES = [
  "./", "app.js", "camera.js", "client.js", "comparable.js", "decoding.js", "heat-map.js", "icon.svg", "judging.js",
  "model-file.js", "models.js", "regions.js", "resize.js", "show.js", "style.css", "worker.js",
  "node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
  "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
];

addEventListener("install", (event) => {
  skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
});
addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== location.origin) return;
  event.respondWith(answer(request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const found = await fetch(request);
    if (found.ok) await cache.put(request, found.clone()).catch(() => {}); // such as a full disk
    return found;
  } catch (error) {
    const kept = await cache.match(request, { ignoreSearch: request.mode === "navigate" });
    if (kept) return kept;
    throw error;
  }
}
