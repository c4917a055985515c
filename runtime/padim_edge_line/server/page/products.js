// A card for each product: the last verdict as large as it goes, its image, the trend, the counts of today.

import { overlayOf, previewOf, send } from "./api.js";
import { draw } from "./chart.js";
import { byId, h, s, toast, write } from "./dom.js";
import { ALARMS, VERDICTS, age, clock, count, score, share, warning } from "./words.js";

const TREND = 200;
const OLD_MS = 30000;
const REDRAW_MS = 250;

/** Milliseconds after which the last verdict of a product is old: no longer what lies under the camera. */
export function oldAfter(trend) {
  const gaps = [];
  for (let i = Math.max(1, trend.length - 20); i < trend.length; i++) gaps.push(trend[i][1] - trend[i - 1][1]);
  gaps.sort((a, b) => a - b);
  return Math.max(OLD_MS, 3 * (gaps[Math.floor(gaps.length / 2)] ?? 0));
}

function figure(label) {
  const value = h("dd", {}, "–"), note = h("dd", { class: "quiet" }, "");
  return { element: h("div", {}, h("dt", {}, label), value, note), value, note };
}

class Card {
  constructor(name, page) {
    this.name = name;
    this.page = page;
    this.product = null;
    this.drawn = 0;
    this.shown = null;
    this.symbol = h("span", { class: "symbol", "aria-hidden": "true" }, "…");
    this.word = h("span", { class: "word" }, "No image yet");
    this.verdict = h("p", { class: "verdict" }, this.symbol, this.word);
    this.when = h("p", { class: "when" }, "");
    this.part = h("dd", {}, "–");
    this.score = h("dd", {}, "–");
    this.limit = h("dd", {}, "–");
    this.reason = h("p", { class: "reason" }, "");
    this.image = h("img", { alt: "", hidden: true });
    this.none = h("span", { class: "none" }, "No image yet");
    this.earlier = h("span", { class: "earlier", hidden: true }, "an earlier image");
    this.picture = h("button", { type: "button", class: "picture", disabled: true,
      onclick: () => { if (this.product?.last) page.view(this.product.last); } }, this.image, this.none, this.earlier);
    this.choose = h("button", { type: "button", class: "button", onclick: () => this.make() }, "Make this product");
    this.badge = h("span", { class: "badge" }, "being made");
    this.model = h("span", { class: "quiet" }, "");
    this.chart = s("svg", { class: "chart", role: "img", "aria-label": "No scores yet" });
    this.heading = h("h4", {}, "Scores");
    this.figures = {
      images: figure("Images"), good: figure("Good"), alarms: figure("Alarms"), rate: figure("Rate"),
    };
    this.element = h("article", { class: "product", "aria-labelledby": `product-${name}`, "data-tone": "none" },
      h("div", { class: "product-head" }, h("h3", { id: `product-${name}` }, name), this.badge, this.model, this.choose),
      this.picture,
      h("div", { class: "now" }, this.verdict, this.when, this.reason,
        h("dl", { class: "facts" },
          h("div", {}, h("dt", {}, "Score"), this.score), h("div", {}, h("dt", {}, "Threshold"), this.limit), h("div", {}, h("dt", {}, "Part"), this.part))),
      h("div", { class: "trend" }, this.heading, this.chart),
      h("dl", { class: "figures today" }, Object.values(this.figures).map((each) => each.element)));
    new ResizeObserver(() => this.draw(true)).observe(this.chart);
  }

  async make() {
    try {
      await send("/api/product", { product: this.name });
      toast(`${this.name} is made from now on. Images that had arrived before keep their product.`);
      this.page.refresh();
    } catch (error) {
      this.page.trouble(error);
    }
  }

  state(product, active, mayChange, alone) {
    this.product = product;
    const made = product.name === active;
    this.element.classList.toggle("active", made);
    this.badge.hidden = !made || alone;
    this.choose.hidden = made || !mayChange;
    this.choose.disabled = !product.loaded;
    write(this.model, product.loaded ? `model r${product.revision} · ${product.model}` : "model not loaded");
    this.show();
  }

  row(row) {
    const product = this.product;
    product.last = { ...row, mark: null };
    product.today[row.verdict] = (product.today[row.verdict] ?? 0) + 1;
    product.trend.push([row.seq, Date.parse(row.time), row.score, row.threshold, row.verdict]);
    if (product.trend.length > TREND) product.trend.shift();
    this.show();
  }

  show() {
    const { last, today, minute } = this.product;
    const all = Object.values(today).reduce((sum, each) => sum + each, 0);
    const alarms = ALARMS.reduce((sum, each) => sum + (today[each] ?? 0), 0);
    const { images, good, rate } = this.figures;
    write(images.value, count(all));
    write(images.note, "today");
    write(good.value, count(today.good ?? 0));
    write(good.note, share(today.good ?? 0, all));
    write(this.figures.alarms.value, count(alarms));
    const anomalous = today.anomalous ?? 0;
    write(this.figures.alarms.note, alarms === anomalous ? share(alarms, all) : `${share(alarms, all)}, ${count(anomalous)} anomalous`);
    write(rate.value, count(minute));
    write(rate.note, "in a minute");
    if (last) this.showLast(last);
    this.tick();
    this.draw(false);
  }

  showLast(last) {
    const verdict = VERDICTS[last.verdict];
    write(this.symbol, verdict.symbol);
    write(this.word, verdict.word);
    write(this.score, score(last.score));
    write(this.limit, score(last.threshold));
    write(this.part, last.part ?? last.name);
    const lines = last.regions.length;
    const places = last.verdict === "anomalous" && lines ? `${lines} ${lines === 1 ? "region" : "regions"} above the threshold` : "";
    write(this.reason, last.error ?? (last.warnings.length ? warning(last.warnings[0]) : places));
    this.verdict.classList.toggle("long", verdict.word.length > 10);
    this.picture.disabled = false;
    this.showPicture(last);
  }

  // The picture is exchanged only when it is there. One at a time is on its way; the newest comes next.
  showPicture(row) {
    if (this.shown === row.seq || this.coming) return;
    const url = row.image ? overlayOf(row) : row.score === null ? null : previewOf(row);
    if (url === null) return this.noPicture(row, "No picture of this image");
    const next = new Image();
    this.coming = true;
    const done = (good) => {
      this.coming = false;
      this.shown = row.seq;
      this.earlier.hidden = good || row.score === null || this.image.hidden;
      if (good) {
        this.image.src = next.src;
        this.image.alt = `Image of ${row.part ?? row.name}, ${VERDICTS[row.verdict].word}, with the anomaly map over it`;
        this.image.hidden = false;
        this.none.hidden = true;
      } else if (this.earlier.hidden) {
        this.noPicture(row, "No picture of this image");
      } else {
        this.image.alt = `An earlier image of ${this.name}, with the anomaly map over it`;
      }
      const newest = this.product.last;
      if (newest && newest.seq !== row.seq) setTimeout(() => this.showPicture(this.product.last), REDRAW_MS);
    };
    next.onload = () => done(true);
    next.onerror = () => done(false);
    next.src = url;
  }

  noPicture(row, text) {
    this.shown = row.seq;
    this.earlier.hidden = true;
    this.image.hidden = true;
    this.none.hidden = false;
    write(this.none, text);
  }

  /** Say how old the verdict is. What is old or not live is never shown in the colour of a fresh verdict. */
  tick() {
    const last = this.product?.last;
    if (!last) return;
    const ms = this.page.now() - Date.parse(last.time);
    const fresh = this.page.connected() && ms < oldAfter(this.product.trend);
    this.element.dataset.tone = fresh ? VERDICTS[last.verdict].tone : "old";
    const what = fresh ? "" : this.page.connected() ? "last verdict, " : "not live, ";
    write(this.when, `${what}${age(ms)} · ${clock(last.time)}`);
  }

  draw(resized) {
    if (!this.product || !this.chart.isConnected) return;
    const wait = this.drawn + REDRAW_MS - performance.now();
    clearTimeout(this.later);
    if (wait > 0 && !resized) {
      this.later = setTimeout(() => this.draw(false), wait);
      return;
    }
    this.drawn = performance.now();
    const { trend } = this.product;
    write(this.heading, trend.length > 1 ? `Scores of the last ${trend.length} images` : "Scores");
    draw(this.chart, trend);
  }
}

/** The cards of all products. */
export class Products {
  constructor(page) {
    this.page = page;
    this.cards = new Map();
    this.spokenAt = 0;
    setInterval(() => this.cards.forEach((card) => card.tick()), 1000);
  }

  state(found) {
    const names = found.products.map((product) => product.name);
    const alone = names.length === 1;
    for (const [name, card] of this.cards) {
      if (!names.includes(name)) {
        card.element.remove();
        this.cards.delete(name);
      }
    }
    byId("products").classList.toggle("two", names.length === 2);
    for (const product of found.products) {
      if (!this.cards.has(product.name)) {
        const card = new Card(product.name, this.page);
        this.cards.set(product.name, card);
        byId("products").append(card.element);
      }
      this.cards.get(product.name).state(product, found.active, found.rights.change, alone);
    }
    const first = this.cards.get(found.active)?.element;
    if (first && byId("products").firstElementChild !== first && !byId("products").contains(document.activeElement)) {
      byId("products").prepend(first);
    }
    this.active = found.active;
  }

  row(row) {
    this.cards.get(row.product)?.row(row);
    // Alarms are read out; good parts only now and then, since nobody could listen to each.
    const now = Date.now();
    if (row.verdict !== "good" ? now - this.spokenAt > 3000 : now - this.spokenAt > 30000) {
      this.spokenAt = now;
      write(byId("spoken"), `${row.product} ${row.part ?? ""}: ${VERDICTS[row.verdict].word}`);
    }
  }

  connection() {
    this.cards.forEach((card) => card.tick());
  }
}
