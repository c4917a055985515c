// What the page shows of a verdict and of a model, in words. Text only: nothing from a file becomes markup.

/** Each verdict: the word, a symbol that needs no colour, and the class of its colours. */
export const VERDICTS = {
  "good": { word: "Good", symbol: "✓", tone: "good" },
  "anomalous": { word: "Anomalous", symbol: "✕", tone: "bad" },
  "not comparable": { word: "Not comparable", symbol: "?", tone: "doubt" },
  "unreadable": { word: "Unreadable", symbol: "!", tone: "doubt" },
};

const WARNINGS = {
  unlike: "Unlike the good images nearly everywhere. Check the product, the view and the lens.",
  shift: "Moved against the good images. Check the camera and the part’s place.",
  turned: "Turned against the good images, or lit from another side. Check the camera and the lamp.",
  exposure: "Brighter, darker or flatter than any good image. Check the light.",
};

/** Return the element of the page with an id. */
export const byId = (id) => document.getElementById(id);

/** Make an element with a class and content. */
export function element(tag, name, ...content) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...content);
  return made;
}

/** A score with three or four significant digits. */
export function number(value) {
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(2);
  return value.toFixed(value >= 100 ? 1 : value >= 10 ? 2 : 3);
}

function write(id, value, text) {
  byId(id).value = String(value);
  byId(id).textContent = text;
}

/** Show a verdict and the numbers behind it. */
export function showResult(name, inspection) {
  const { verdict, score, threshold, milliseconds, warnings, notes, regions } = inspection;
  showVerdict(verdict);
  byId("image-name").textContent = `${name} · ${inspection.width} × ${inspection.height} pixels`;
  write("score", score, number(score));
  write("threshold", threshold, number(threshold));
  write("time", milliseconds, `${milliseconds.toFixed(0)} ms`);
  const share = score / Math.max(threshold, 1e-6);
  byId("level").setAttribute("width", String(Math.max(0, Math.min(200, 100 * share))));
  byId("meter").setAttribute("aria-label", `The score is ${(100 * share).toFixed(0)} % of the threshold`);
  const reasons = [
    ...warnings.map((code) => element("li", "", WARNINGS[code] ?? code)),
    ...notes.map((note) => element("li", "note", `${note[0].toUpperCase()}${note.slice(1)}.`)),
  ];
  byId("reasons").replaceChildren(...reasons);
  byId("regions").replaceChildren(...regions.slice(0, 8).map(regionRow));
  byId("no-regions").hidden = regions.length > 0;
  byId("region-table").hidden = regions.length === 0;
  byId("regions-heading").textContent = regions.length > 8 ? `Regions: the highest 8 of ${regions.length}` : "Regions";
  byId("result").dataset.tone = VERDICTS[verdict].tone;
  byId("result").hidden = byId("views").hidden = false;
}

function regionRow({ box: [x, y, width, height], share, score }) {
  const percent = 100 * share, area = percent < 0.1 ? "< 0.1 %" : `${percent.toFixed(1)} %`;
  const cells = [`${x}, ${y}`, `${width} × ${height}`, area, number(score)];
  return element("tr", "", ...cells.map((text) => element("td", "", text)));
}

/** Show the verdict alone. */
export function showVerdict(verdict) {
  const { word, symbol, tone } = VERDICTS[verdict];
  byId("word").textContent = word;
  byId("symbol").textContent = symbol;
  byId("inspection").dataset.tone = tone;
}

/** Show what cannot be judged, and why. */
export function showUnreadable(name, reason) {
  showVerdict("unreadable");
  byId("picture").hidden = byId("result").hidden = byId("views").hidden = true;
  showHint(`${name}: ${reason}`);
}

/** Show a picture that was judged. */
export function showPicture(bitmap, verdict, name) {
  const canvas = byId("picture");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  canvas.setAttribute("aria-label", `${name}, ${verdict}, with the heat map over it`);
  canvas.hidden = false;
  showHint(null);
}

/** Show a sentence in place of a picture; `null` hides it. */
export function showHint(text) {
  byId("hint").textContent = text ?? "";
  byId("hint").parentElement.hidden = text === null;
}

/** Show what the model is and how it was checked. */
export function showModel(name, metadata, about) {
  const { method } = metadata, [height, width] = method.preprocessing.crop ?? method.preprocessing.resize;
  const rows = [
    ["Part", metadata.class_name],
    ["File", name],
    ["Method", `${method.preset}, ${method.precision.name}`],
    ["Frame", `${width} × ${height} pixels`],
    ["Good images", String(metadata.images)],
    ["Threshold", number(metadata.threshold)],
    ["Digest", about.whole === null ? "not compared (plain http)" : "as written"],
    ["Self-test", `passed, off by ${about.difference.toExponential(1)}`],
    ["Threads", String(about.threads)],
  ];
  const pair = ([key, value]) => [element("dt", "", key), element("dd", "", String(value).slice(0, 200))];
  byId("model-facts").replaceChildren(...rows.flatMap(pair));
  byId("model-facts").hidden = false;
  byId("model-hint").hidden = true;
  document.title = `${String(metadata.class_name).slice(0, 60)} · padim-edge`;
}

/** Show in one word what the model is doing. */
export function showState(state, text) {
  byId("state").dataset.state = state;
  byId("state").textContent = text;
}

/** Show a sentence above everything; nothing hides it. */
export function showProblem(text) {
  byId("problem").textContent = text ?? "";
  byId("problem").hidden = !text;
}

/** One line of the list of judged images. */
export function listRow({ name, verdict, inspection }, onclick) {
  const { word, symbol, tone } = VERDICTS[verdict];
  const button = element(
    "button", "",
    element("span", `tone ${tone}`, `${symbol} ${word}`),
    element("span", "name", name),
    element("span", "number", inspection ? number(inspection.score) : ""),
  );
  button.type = "button";
  button.addEventListener("click", onclick);
  return element("li", "", button);
}
