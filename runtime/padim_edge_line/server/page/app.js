// The page: puts its parts together.

import { present, presentFromAddress, send } from "./api.js";
import { byId, h, toast, write } from "./dom.js";
import { Gallery } from "./gallery.js";
import { connect } from "./live.js";
import { Parts, alertsOf } from "./parts.js";
import { Products } from "./products.js";
import { Viewer } from "./viewer.js";
import { clock } from "./words.js";

let state = null;
let lostSince = Date.now();
let ahead = 0; // the service's clock against ours
let live = null;

const page = {
  now: () => Date.now() + ahead,
  connected: () => lostSince === null,
  mayChange: () => state?.rights.change ?? false,
  last: (product) => state?.products.find((each) => each.name === product)?.last ?? null,
  refresh: () => live?.refresh(),
  view: (row) => viewer.open(row),
  neighbour: (row, by) => gallery.neighbour(row, by),
  marked(data) {
    gallery.mark(data);
    viewer.mark(data);
  },
  trouble(error) {
    if (error.status === 401) unlock("That needs the token. Nothing was changed.");
    else toast(error.message);
  },
  unlock: () => unlock(),
};

const products = new Products(page);
const gallery = new Gallery(page);
const viewer = new Viewer(page);
const parts = new Parts(page);

function showState(found) {
  const changed = state?.rights.change !== found.rights.change;
  state = found;
  ahead = Date.parse(found.time) - Date.now();
  document.title = `${found.name} · padim-edge`;
  write(byId("line"), found.name);
  products.state(found);
  gallery.state(found);
  parts.state(found);
  if (changed) viewer.refresh();
  write(byId("rights"), found.rights.change ? "Changes allowed" : "Read-only");
  showBar();
}

let alertsShown = "";
function showBar() {
  const ready = byId("ready");
  const isReady = state?.ready ?? false;
  ready.dataset.state = state === null ? "starting" : isReady ? "working" : "failing";
  write(ready, state === null ? "starting" : isReady ? "✓ ready" : "! not ready");
  ready.hidden = lostSince !== null;
  const connection = byId("connection");
  connection.dataset.state = lostSince === null ? "working" : "failing";
  write(connection, lostSince === null ? "● live" : state === null ? "connecting" : "! not live");
  document.body.classList.toggle("lost", lostSince !== null && state !== null);
  const alerts = state === null ? [] : lostSince === null ? alertsOf(state)
    : [{ tone: "bad", title: `No connection since ${clock(lostSince)}.`, text: "What stands here is old. The page comes back by itself." }];
  const key = JSON.stringify(alerts);
  if (key === alertsShown) return; // nothing is read out twice
  alertsShown = key;
  byId("alerts").replaceChildren(...alerts.map(({ tone, title, text }) =>
    h("p", { class: `banner ${tone}` }, h("b", {}, title), text ? ` ${text}` : "")));
}

function unlock(reason) {
  const dialog = byId("unlock");
  const may = page.mayChange();
  const problem = h("p", { class: "problem", role: "alert" }, reason ?? "");
  const token = h("input", { type: "password", id: "token", name: "token", autocomplete: "off", required: true });
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    try {
      await present(token.value.trim());
      dialog.close();
      toast("Changes are allowed in this browser.");
      live.open();
    } catch (error) {
      problem.textContent = error.message;
      token.select();
    }
  } },
    h("label", { for: "token" }, "Token"), token, problem,
    h("div", { class: "dialog-buttons" }, h("button", { type: "submit", class: "button" }, "Allow changes"),
      h("button", { type: "button", class: "quiet-button", onclick: () => dialog.close() }, "Cancel")));
  const lock = h("div", { class: "dialog-buttons" },
    h("button", { type: "button", class: "button", onclick: async () => {
      await send("/api/session", {}, "DELETE").catch(() => null);
      dialog.close();
      live.open();
    } }, "Make this browser read-only"),
    h("button", { type: "button", class: "quiet-button", onclick: () => dialog.close() }, "Close"));
  dialog.replaceChildren(
    h("h2", { id: "unlock-title" }, may ? "Changes are allowed" : state === null ? "This line asks for its token" : "This browser may only read"),
    h("p", {}, may ? "This browser may mark images and change the product."
      : "To mark images and change the product, open the link that padim-edge printed when it started; it ends in #token=… "
        + "Or enter the token here."),
    may ? lock : form);
  if (!dialog.open) dialog.showModal();
}

byId("rights").addEventListener("click", () => unlock());

async function start() {
  await presentFromAddress().catch((error) => toast(`The token of the link does not open this line: ${error.message}`));
  live = connect({
    state: showState,
    row(row) {
      products.row(row);
      gallery.row(row);
    },
    mark: page.marked,
    connection(since) {
      lostSince = since;
      showBar();
      products.connection();
    },
    refused() {
      if (!byId("unlock").open) unlock();
    },
  });
  addEventListener("hashchange", async () => {
    await presentFromAddress().catch((error) => toast(error.message));
    live.open();
  });
}

start();
