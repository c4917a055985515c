// Requests to the service, and the token.

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new Refused(0, "The service does not answer.");
  }
  if (answer.status === 204) return null;
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, data.error ?? `The service answered with ${answer.status}.`);
  return data;
}

/** Read something. */
export const read = (path) => request(path);

/** Change something. */
export const send = (path, data, method = "POST") =>
  request(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(data) });

/** Turn a token into a cookie that no script can read. */
export const present = (token) => send("/api/session", { token });

/** Take the token out of the address, so that it stays in no history, and turn it into a cookie. */
export async function presentFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  history.replaceState(null, "", location.pathname);
  await present(token);
}

const addressOf = (row, kind) => `/api/rows/${row.seq}/${kind}?key=${row.key.slice(0, 12)}`;
export const overlayOf = (row) => addressOf(row, "overlay");
export const imageOf = (row) => addressOf(row, "image");
export const previewOf = (row) =>
  `/api/products/${encodeURIComponent(row.product)}/preview?seq=${row.seq}`;
