// The gallery: alarms by default, good images and all of them on demand.

import { overlayOf, read } from "./api.js";
import { byId, h } from "./dom.js";
import { ALARMS, VERDICTS, clock, score } from "./words.js";

const AT_ONCE = 24;
const MOST = 240;
const FILTERS = [
  { name: "Alarms", verdicts: ALARMS, empty: "No alarms so far." },
  { name: "Good", verdicts: ["good"], empty: "No good images so far." },
  { name: "All", verdicts: [], empty: "No images so far." },
];

export class Gallery {
  constructor(page) {
    this.page = page;
    this.filter = FILTERS[0];
    this.rows = [];
    this.tiles = new Map();
    this.ended = false;
    this.buttons = FILTERS.map((filter) => h("button", {
      type: "button", "aria-pressed": String(filter === this.filter), onclick: () => this.choose(filter),
    }, filter.name));
    byId("filter").append(...this.buttons);
    byId("more").addEventListener("click", () => this.older());
  }

  /** Take over the alarms of the state; what has been loaded beyond them stays. */
  state(found) {
    if (this.filter !== FILTERS[0]) {
      if (!this.rows.length) this.older();
      return;
    }
    const first = found.alarms.length ? found.alarms[found.alarms.length - 1].seq : Infinity;
    this.rows = [...found.alarms, ...this.rows.filter((row) => row.seq < first)];
    if (found.alarms.length < AT_ONCE) this.ended = true;
    this.show();
  }

  row(row) {
    const verdicts = this.filter.verdicts;
    if (verdicts.length && !verdicts.includes(row.verdict)) return;
    this.rows.unshift({ ...row, mark: null });
    if (this.rows.length > MOST) {
      this.rows.pop();
      this.ended = false;
    }
    clearTimeout(this.later);
    this.later = setTimeout(() => this.show(), 100);
  }

  mark(data) {
    const row = this.rows.find((each) => each.seq === data.seq);
    if (!row) return;
    row.mark = { mark: data.mark, who: data.who };
    this.tiles.get(row.seq)?.remove();
    this.tiles.delete(row.seq);
    this.show();
  }

  choose(filter) {
    this.filter = filter;
    this.buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(FILTERS[index] === filter)));
    byId("images-heading").textContent = filter.name === "Alarms" ? "Alarms" : filter.name === "Good" ? "Good images" : "All images";
    this.rows = [];
    this.ended = false;
    this.tiles.forEach((tile) => tile.remove());
    this.tiles.clear();
    this.older();
  }

  async older() {
    const filter = this.filter;
    const query = new URLSearchParams({ limit: String(AT_ONCE) });
    if (filter.verdicts.length) query.set("verdict", filter.verdicts.join(","));
    if (this.rows.length) query.set("before", String(this.rows[this.rows.length - 1].seq));
    try {
      const { rows } = await read(`/api/rows?${query}`);
      if (this.filter !== filter) return;
      const known = new Set(this.rows.map((row) => row.seq));
      this.rows.push(...rows.filter((row) => !known.has(row.seq)));
      this.ended = rows.length < AT_ONCE;
      this.show();
    } catch (error) {
      this.page.trouble(error);
    }
  }

  /** Return the row after or before another one, in the order of the gallery. */
  neighbour(row, step) {
    const index = this.rows.findIndex((each) => each.seq === row.seq);
    return index < 0 ? null : this.rows[index + step] ?? null;
  }

  show() {
    const list = byId("gallery");
    const wanted = new Set(this.rows.map((row) => row.seq));
    for (const [seq, tile] of this.tiles) {
      if (!wanted.has(seq)) {
        tile.remove();
        this.tiles.delete(seq);
      }
    }
    let place = list.firstElementChild;
    for (const row of this.rows) {
      let tile = this.tiles.get(row.seq);
      if (!tile) {
        tile = this.tile(row);
        this.tiles.set(row.seq, tile);
      }
      if (tile === place) place = place.nextElementSibling;
      else list.insertBefore(tile, place);
    }
    const empty = byId("gallery-empty");
    empty.hidden = this.rows.length > 0;
    empty.textContent = this.filter.empty;
    byId("more").hidden = this.ended || !this.rows.length;
  }

  tile(row) {
    const verdict = VERDICTS[row.verdict];
    const what = `${verdict.word}, ${row.product} ${row.part ?? row.name}, ${clock(row.time)}`;
    const none = (text) => h("span", { class: "none" }, text);
    const picture = row.image
      ? h("img", { src: overlayOf(row), alt: "", loading: "lazy", decoding: "async",
          onerror: (event) => event.target.replaceWith(none("image no longer kept")) })
      : none(row.verdict === "good" ? "image not kept" : "no image");
    return h("li", {},
      h("button", { type: "button", class: "tile", "aria-label": row.mark ? `${what}, marked ${row.mark.mark}` : what,
        onclick: () => this.page.view(row) },
        picture,
        h("span", { class: `tag ${verdict.tone}` }, h("span", { "aria-hidden": "true" }, verdict.symbol), ` ${verdict.word}`),
        h("span", { class: "tile-line" }, h("b", {}, row.part ?? row.name),
          h("span", {}, score(row.score))),
        h("span", { class: "tile-line quiet" }, h("span", {}, row.product), h("span", {}, clock(row.time))),
        row.mark ? h("span", { class: "word-of" }, `marked “${row.mark.mark}”`) : null));
  }
}
