// The connection: events as they come, the whole state at each beginning, and the truth about when it was lost.

import { read } from "./api.js";

const SILENCE_MS = 7000; // the service sends a sign of life every 2 s
const STATE_MS = 20000;

/**
 * Stay connected.
 *
 * @param {object} told `state(data)`, `row(row)`, `mark(data)`, `refused(error)`, and `connection(lostSince)` with the
 *   time since when nothing was heard, or `null` while the connection stands.
 */
export function connect(told) {
  let source = null;
  let heard = 0;
  let lost = Date.now();
  let last = 0;
  let asked = false;
  let wanted = false;
  let retry = null;

  async function refresh() {
    if (asked) {
      wanted = true;
      return;
    }
    asked = true;
    try {
      const found = await read("/api/state");
      if (source?.readyState === EventSource.OPEN) alive();
      last = found.last;
      told.state(found);
    } catch (error) {
      if (error.status === 401) {
        source?.close();
        told.refused(error);
      }
    }
    asked = false;
    if (wanted) {
      wanted = false;
      setTimeout(refresh, 500);
    }
  }

  function alive() {
    heard = Date.now();
    if (lost !== null) {
      lost = null;
      told.connection(null);
    }
  }

  function dead() {
    if (lost === null) {
      lost = heard || Date.now();
      told.connection(lost);
    }
  }

  function open() {
    clearTimeout(retry);
    source?.close();
    source = new EventSource("/api/events");
    source.addEventListener("open", refresh);
    source.addEventListener("beat", alive);
    source.addEventListener("row", (event) => {
      alive();
      const row = JSON.parse(event.data);
      if (row.seq > last + 1) refresh(); // some were left out
      if (row.seq > last) {
        last = row.seq;
        told.row(row);
      }
    });
    source.addEventListener("mark", (event) => told.mark(JSON.parse(event.data)));
    for (const kind of ["health", "product", "drift"]) source.addEventListener(kind, refresh);
    source.addEventListener("error", () => {
      dead();
      if (source.readyState === EventSource.CLOSED) { // refused: the browser does not try again
        refresh();
        retry = setTimeout(open, 3000);
      }
    });
  }

  // A page that the browser keeps for "back" must not keep its connection: a browser has six of them.
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  open();
  setInterval(() => {
    if (lost === null && Date.now() - heard > SILENCE_MS) {
      dead();
      open();
    }
  }, 1000);
  setInterval(() => { if (lost === null) refresh(); }, STATE_MS);
  return { refresh, open };
}
