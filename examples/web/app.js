// The page: a model, images or a camera, a verdict.

import { frameOf, startCamera, stopCamera } from "./camera.js";
import { start } from "./client.js";
import { Refusal } from "./model-file.js";
import { fromFiles, fromServer, ofModel } from "./models.js";
import {
  byId, listRow, showHint, showModel, showPicture, showProblem, showResult, showState, showUnreadable,
} from "./show.js";

/** Most images whose names stay in the list. */
const MOST_LISTED = 200;
const MOST_THREADS = 8;

const FARBLED =
  "This browser changes the pixels that a page reads, against tracking. Scores are not exact until you allow it here.";

const page = {
  client: null,
  /** The model as it was read, for another number of threads. */
  model: null,
  /** Number of the latest model that was asked for; older ones are dropped. */
  loading: 0,
  /** What is shown: name, inspection, map and both pictures. */
  shown: null,
  /** Whether the image is shown without its heat map. */
  plain: false,
  /** Settles when nothing waits for a verdict. */
  judging: Promise.resolve(),
  /** Entries of the list, the newest first. */
  judged: [],
};

const isolated = globalThis.crossOriginIsolated === true;
const cores = isolated ? Math.max(1, Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1)) : 1;

/** Run what a click asks for, and say what went wrong. */
const doing = (work) => async (...given) => {
  showProblem(null);
  try {
    await work(...given);
  } catch (error) {
    showProblem(error instanceof Refusal ? error.message : `Something unexpected went wrong: ${error.message}`);
    if (!(error instanceof Refusal)) console.error(error);
  }
};

async function load(reading) {
  const turn = ++page.loading;
  showState("loading", "loading the model");
  try {
    const model = await reading;
    if (turn === page.loading) await open(model, turn);
  } catch (error) {
    if (turn !== page.loading) return;
    if (page.client) showState("ready", `ready: ${page.model.metadata.class_name}`.slice(0, 60));
    else showState("failed", "no model");
    throw error;
  }
}

async function open(model, turn) {
  const client = start();
  try {
    const threads = Number(byId("threads").value) || 1;
    const about = await client.load({ model: model.model, data: model.data, threads });
    if (turn !== page.loading) return client.stop();
    page.client?.stop();
    Object.assign(page, { client, model });
    showModel(model.name, model.metadata, about);
    showState("ready", `ready: ${model.metadata.class_name}`.slice(0, 60));
    byId("caution").hidden = about.exact;
    byId("caution").textContent = about.exact ? "" : FARBLED;
    byId("choose-image").disabled = byId("camera").disabled = false;
    byId("choose-model").textContent = "Change the model";
    byId("first-model").hidden = true;
    if (!page.shown) showHint("Choose images, drop them here, or use the camera.");
  } catch (error) {
    client.stop();
    throw error;
  }
}

/** Judge one image behind the ones that wait, and return its entry; it is shown unless a newer one was asked for. */
function judge(name, taken) {
  const next = page.judging.then(async () => {
    if (!page.client) throw new Refusal("There is no model yet. Choose one first.");
    byId("inspection").setAttribute("aria-busy", "true");
    try {
      const { levels } = page.model.metadata.method.preprocessing;
      const { inspection, map, plain, heat } = await page.client.judge({ ...(await taken()), levels });
      show({ name, inspection, map, plain, heat });
      return { name, verdict: inspection.verdict, inspection };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      showUnreadable(name, error.message);
      return { name, verdict: "unreadable", reason: error.message };
    } finally {
      byId("inspection").setAttribute("aria-busy", "false");
    }
  });
  page.judging = next.catch(() => {});
  return next;
}

function show(found) {
  page.shown?.plain.close();
  page.shown?.heat.close();
  page.shown = found;
  showResult(found.name, found.inspection);
  redraw();
}

function redraw() {
  const { name, inspection, plain, heat } = page.shown;
  showPicture(page.plain ? plain : heat, inspection.verdict, name);
  byId("show-heat").setAttribute("aria-pressed", String(!page.plain));
  byId("show-plain").setAttribute("aria-pressed", String(page.plain));
}

async function judgeFiles(files) {
  if (page.judged.length + files.length > 1) byId("others").hidden = false;
  for (const blob of files) {
    const entry = { ...(await judge(blob.name, () => ({ blob }))), blob };
    page.judged.unshift(entry);
    page.judged.length = Math.min(page.judged.length, MOST_LISTED);
    const row = listRow(entry, doing(() => judge(blob.name, () => ({ blob }))));
    byId("list").prepend(row);
    if (byId("list").children.length > MOST_LISTED) byId("list").lastElementChild.remove();
    tally();
  }
}

function tally() {
  const count = (verdict) => page.judged.filter((entry) => entry.verdict === verdict).length;
  const words = ["good", "anomalous", "not comparable", "unreadable"].filter(count);
  byId("tally").textContent = words.map((each) => `${count(each)} ${each}`).join(", ");
}

/** Load the model among some files, and judge the images among them. */
async function take(files) {
  const models = files.filter(ofModel), images = files.filter((file) => !ofModel(file));
  if (models.length) await load(fromFiles(models));
  if (images.length) await judgeFiles(images);
}

async function toggleCamera() {
  const video = byId("video"), on = video.srcObject !== null;
  if (on) stopCamera(video);
  else await startCamera(video);
  video.hidden = byId("take").hidden = byId("always-label").hidden = on;
  byId("camera").setAttribute("aria-pressed", String(!on));
  byId("camera").textContent = on ? "Use the camera" : "Stop the camera";
  byId("choose-image").classList.toggle("main", on);
  showHint(on && byId("picture").hidden ? "Choose images, drop them here, or use the camera." : null);
  if (on) byId("always").checked = false;
}

const judgeFrame = () => judge("Camera", async () => ({ bitmap: await frameOf(byId("video")) }));

const happened = (target, name) => new Promise((done) => target.addEventListener(name, done, { once: true }));

async function keepJudging() {
  while (byId("always").checked && byId("video").srcObject) {
    if (document.hidden) await happened(document, "visibilitychange");
    else await judgeFrame();
  }
}

function save(blob, ending) {
  const link = document.createElement("a"), stem = page.shown.name.replace(/\.\w+$/, "");
  link.href = URL.createObjectURL(blob);
  link.download = `${stem}-${page.shown.inspection.verdict.replace(" ", "-")}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function chosen(id, use) {
  byId(id).addEventListener("change", doing(async ({ target }) => {
    const files = [...target.files];
    target.value = ""; // so that the same file can be chosen again
    if (files.length) await use(files);
  }));
}

function listen() {
  const click = (id, work) => byId(id).addEventListener("click", doing(work));
  for (const id of ["choose-model", "first-model"]) click(id, () => byId("model-files").click());
  click("choose-image", () => byId("image-files").click());
  chosen("model-files", take);
  chosen("image-files", take);
  click("camera", toggleCamera);
  click("take", judgeFrame);
  byId("always").addEventListener("change", doing(keepJudging));
  click("show-heat", () => { page.plain = false; redraw(); });
  click("show-plain", () => { page.plain = true; redraw(); });
  click("save-picture", async () => {
    save(await new Promise((done) => byId("picture").toBlob(done, "image/png")), "png");
  });
  click("save-json", () => {
    const text = JSON.stringify({ path: page.shown.name, ...page.shown.inspection }, null, 1);
    save(new Blob([text], { type: "application/json" }), "json");
  });
  byId("threads").addEventListener("change", doing(() => page.model && load(Promise.resolve(page.model))));

  let inside = 0;
  const drag = (event, step) => {
    event.preventDefault();
    inside = step === 0 ? 0 : inside + step;
    byId("drop").hidden = inside <= 0;
  };
  document.addEventListener("dragenter", (event) => drag(event, 1));
  document.addEventListener("dragleave", (event) => drag(event, -1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", doing(async (event) => {
    drag(event, 0);
    const files = [...event.dataTransfer.files];
    if (files.length) await take(files);
  }));
}

function offerThreads(asked) {
  const options = Array.from({ length: cores }, (_, k) => new Option(String(k + 1), String(k + 1)));
  byId("threads").replaceChildren(...options);
  byId("threads").value = String(Math.max(1, Math.min(cores, asked || Math.min(cores, 4))));
  byId("threads-label").hidden = cores < 2;
}

const query = new URLSearchParams(location.search);
offerThreads(Number(query.get("threads")));
listen();
if (query.get("model")) doing(() => load(fromServer(query.get("model"))))();
navigator.serviceWorker?.register("offline.js").catch(() => {}); // the page works without it
