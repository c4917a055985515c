// The states of sources, sinks and the rest, the latency, and what has drifted.

import { send } from "./api.js";
import { byId, h, toast, write } from "./dom.js";
import { STATES, clock, count, milliseconds } from "./words.js";

const KINDS = { model: "Model", record: "Record", source: "Source", sink: "Sink", server: "Page", images: "Images", store: "Images", drift: "Drift" };
const ORDER = ["source", "model", "record", "images", "store", "drift", "sink", "server"];

const number = (value) => Number.isInteger(value) ? count(value) : value.toFixed(1);

function item(part, page, triggers) {
  const state = STATES[part.state] ?? STATES.starting;
  const counts = Object.entries(part.counts).map(([name, value]) => part.kind === "model" ? `${name} ${value}` : `${number(value)} ${name.replaceAll("_", " ")}`);
  const trigger = part.kind === "source" && triggers.includes(part.name) && page.mayChange()
    ? h("button", { type: "button", class: "button small", onclick: async (event) => {
        event.target.disabled = true;
        try {
          const row = await send("/api/trigger", { source: part.name });
          toast(`${part.name} took an image: ${row.verdict}.`);
        } catch (error) {
          page.trouble(error);
        }
        event.target.disabled = false;
      } }, "Take an image")
    : null;
  return h("li", { "data-state": part.state },
    h("span", { class: "part-state" }, h("span", { class: "part-symbol", "aria-hidden": "true" }, state.symbol), state.word),
    h("div", { class: "part-text" },
      h("p", {}, h("b", {}, part.name), " ", h("span", { class: "quiet" }, KINDS[part.kind] ?? part.kind)),
      part.sentence ? h("p", { class: "part-sentence" }, part.sentence) : null,
      h("p", { class: "quiet" }, [...counts, `since ${clock(part.since)}`].join(" · "))),
    trigger);
}

export class Parts {
  constructor(page) {
    this.page = page;
    this.key = "";
  }

  state(found) {
    const parts = found.parts.filter((part) => part.kind !== "drift" || part.state !== "working");
    const place = (part) => ORDER.indexOf(part.kind) + (ORDER.includes(part.kind) ? 0 : 99);
    parts.sort((a, b) => place(a) - place(b) || a.name.localeCompare(b.name));
    const key = JSON.stringify([parts, found.triggers, found.rights]);
    if (key !== this.key && !byId("parts").contains(document.activeElement)) {
      this.key = key;
      byId("parts").replaceChildren(...parts.map((part) => item(part, this.page, found.triggers)));
    }
    const { p50, p95, p99, images } = found.latency;
    byId("latency").replaceChildren(...[["Half of them", p50], ["95 of 100", p95], ["99 of 100", p99]].map(([name, value]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, milliseconds(value)))));
    write(byId("latency-note"), images ? `within this time; the last ${count(images)} images` : "No images since the start.");
  }
}

/** Return what everybody must see first: that the line is not ready, what fails, what has changed. */
export function alertsOf(found) {
  const alerts = [];
  const failing = found.parts.filter((part) => part.state === "failing");
  if (!found.ready) {
    const why = failing.filter((part) => part.kind === "model" || part.kind === "record").map((part) => part.sentence || `${part.name} fails.`);
    alerts.push({ tone: "bad", title: "Not ready: no image can be judged.", text: why.join(" ") });
  }
  for (const part of found.parts) {
    if (part.kind === "drift" && part.sentence && part.state === "failing") {
      alerts.push({ tone: "doubt", title: `${part.name} has changed.`, text: `${part.sentence} Since ${clock(part.since)}.` });
    }
  }
  const others = failing.filter((part) => !["model", "record", "drift"].includes(part.kind));
  if (others.length) {
    const names = others.map((part) => `${(KINDS[part.kind] ?? part.kind).toLowerCase()} ${part.name}`);
    alerts.push({ tone: "doubt", title: `Fails: ${names.join(", ")}.`, text: others.map((part) => part.sentence).filter(Boolean).join(" ") });
  }
  return alerts;
}
