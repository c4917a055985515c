// The larger view of one image, with the buttons to say what the verdict was.

import { imageOf, overlayOf, previewOf, read, send } from "./api.js";
import { byId, h, toast } from "./dom.js";
import { VERDICTS, clock, milliseconds, score, warning } from "./words.js";

const MARKS = {
  "right": "The verdict was right",
  "false alarm": "The part is good",
  "missed": "The part has a defect",
};

export class Viewer {
  constructor(page) {
    this.page = page;
    this.dialog = byId("viewer");
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    this.overlaid = true;
  }

  key(event) {
    if (event.target.closest("input")) return;
    if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (event.key === "o") this.swap(!this.overlaid);
    else return;
    event.preventDefault();
  }

  async open(row) {
    this.show(row);
    if (!this.dialog.open) this.dialog.showModal();
    try { // the row with its mark, as it is on record
      const found = await read(`/api/rows/${row.seq}`);
      if (this.row.seq === found.seq && JSON.stringify(found.mark) !== JSON.stringify(this.row.mark)) this.show(found);
    } catch { /* what is shown is what the page knows */ }
  }

  step(by) {
    const next = this.page.neighbour(this.row, by);
    if (next) this.open(next);
  }

  /** Show again what may be done, after the rights have changed. */
  refresh() {
    if (this.dialog.open) this.show(this.row);
  }

  mark(data) {
    if (this.dialog.open && this.row.seq === data.seq) this.show({ ...this.row, mark: { mark: data.mark, who: data.who } });
  }

  show(row) {
    const held = this.dialog.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    this.row = row;
    const verdict = VERDICTS[row.verdict];
    const close = h("button", { type: "button", class: "quiet-button", "data-key": "close", onclick: () => this.dialog.close() }, "Close");
    this.dialog.replaceChildren(
      h("div", { class: "viewer-head" },
        h("h2", { id: "viewer-title" },
          h("span", { class: `tag ${verdict.tone}` }, h("span", { "aria-hidden": "true" }, verdict.symbol), ` ${verdict.word}`),
          ` ${row.part ?? row.name}`),
        close),
      h("div", { class: "viewer-body" }, this.picture(row), h("div", { class: "viewer-side" },
        this.marks(row), this.facts(row), this.steps(row))));
    if (held) this.dialog.querySelector(`[data-key="${held}"]`)?.focus();
  }

  picture(row) {
    const last = this.page.last(row.product);
    const urls = row.image ? [imageOf(row), overlayOf(row)] : last?.seq === row.seq && row.score !== null ? [null, previewOf(row)] : [];
    if (!urls.length) {
      const why = row.verdict === "good" ? "Of the good images only some are kept; this one was not." : "This image was not kept.";
      return h("div", { class: "viewer-picture" }, h("p", { class: "none" }, why));
    }
    const image = h("img", { alt: "" });
    const note = h("p", { class: "quiet" });
    const buttons = ["Image", "With anomaly map"].map((name, index) => h("button", {
      type: "button", "data-key": `view-${index}`, disabled: urls[index] === null, onclick: () => this.swap(index === 1) }, name));
    this.swap = (overlaid) => {
      if (urls[overlaid ? 1 : 0] === null) return;
      this.overlaid = overlaid;
      image.hidden = false;
      note.textContent = "";
      image.src = urls[overlaid ? 1 : 0];
      image.alt = `${row.part ?? row.name}${overlaid ? " with the anomaly map over it" : ""}`;
      buttons.forEach((button, index) => button.setAttribute("aria-pressed", String((index === 1) === overlaid)));
    };
    image.onerror = () => {
      image.hidden = true;
      note.textContent = this.overlaid ? "The picture is no longer kept." : "This browser does not show images of this format, or it is no longer kept.";
    };
    this.swap(urls[0] === null || this.overlaid);
    return h("div", { class: "viewer-picture" }, image, note,
      h("div", { class: "segments", role: "group", "aria-label": "View" }, buttons));
  }

  facts(row) {
    const facts = [
      ["Score", row.score === null ? null : `${score(row.score)}, threshold ${score(row.threshold)}`],
      ["Share of good images that score as high", row.p_value === null ? null : `${Number((100 * row.p_value).toPrecision(2))} %`],
      ["Reason", row.error],
      ["Warnings", row.warnings.length ? row.warnings.map(warning).join(" ") : null],
      ["Regions", row.regions.length ? h("ol", { class: "regions" }, row.regions.map((region) =>
        h("li", {}, `${region.width} × ${region.height} px at ${region.x}, ${region.y}: ${score(region.score)}`))) : null],
      ["Product", `${row.product}, model r${row.revision} · ${row.model.slice(0, 12)}`],
      ["Part", row.part],
      ["Image", `${row.source}: ${row.name}${row.width ? `, ${row.width} × ${row.height} px` : ""}`],
      ["Time", clock(row.time)],
      ["Arrival to record", `${milliseconds(row.latency_ms)}, of which ${milliseconds(row.model_ms)} in the model`],
      ["Row", String(row.seq)],
    ];
    return h("dl", { class: "viewer-facts" }, facts.filter(([, value]) => value).map(([name, value]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }

  marks(row) {
    const may = this.page.mayChange();
    const alarm = row.verdict !== "good";
    const buttons = Object.entries(MARKS)
      .filter(([mark]) => mark === "right" || (mark === "missed") !== alarm)
      .map(([mark, meaning]) => h("button", { type: "button", class: "button mark-button", "data-key": mark, disabled: !may,
        "aria-pressed": String(row.mark?.mark === mark), onclick: () => this.say(mark) },
        h("b", {}, mark[0].toUpperCase() + mark.slice(1)), h("span", {}, meaning)));
    return h("div", { class: "marks" }, h("h3", {}, "Was the verdict right?"), h("div", { class: "mark-buttons" }, buttons),
      may ? h("p", { class: "quiet" }, row.mark ? `Marked “${row.mark.mark}” by ${row.mark.who}. The last word counts.` : "Marked images can improve the model.")
        : h("p", { class: "quiet" }, "Read-only. ", h("button", { type: "button", class: "link", "data-key": "unlock", onclick: () => this.page.unlock() }, "How to mark images")));
  }

  async say(mark) {
    const seq = this.row.seq;
    try {
      const found = await send(`/api/rows/${seq}/mark`, { mark });
      this.page.marked(found);
      toast(`Row ${seq} is marked “${mark}”.`);
    } catch (error) {
      this.page.trouble(error);
    }
  }

  steps(row) {
    const step = (by, name, key) => h("button", { type: "button", class: "quiet-button", "data-key": key,
      disabled: !this.page.neighbour(row, by), onclick: () => this.step(by) }, name);
    return h("div", { class: "steps" }, step(-1, "← Newer", "newer"), step(1, "Older →", "older"));
  }
}
