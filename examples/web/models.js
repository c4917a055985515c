// Where a model comes from: files that the user chose, or the page's own server.

import { metadataOf, Refusal } from "./model-file.js";

const isModel = (file) => file.name.toLowerCase().endsWith(".onnx");

/** Tell whether a chosen file belongs to a model rather than being an image. */
export const ofModel = (file) => isModel(file) || file.name.toLowerCase().endsWith(".data");

/** Read a model and its data file from chosen files. */
export async function fromFiles(files) {
  const found = files.filter(isModel);
  if (found.length !== 1) {
    throw new Refusal(`There are ${found.length} .onnx files, expected one. Choose a model with its .data file.`);
  }
  const [{ name }] = found;
  return complete(name, await found[0].arrayBuffer(), async (wanted) => {
    const data = files.find((file) => file.name === wanted);
    if (!data) throw new Refusal(`The constants of ${name} are in ${wanted}. Choose both files together.`);
    return data.arrayBuffer();
  });
}

/** Fetch a model and its data file from the server that the page came from. */
export async function fromServer(address) {
  const url = new URL(address, document.baseURI);
  if (url.origin !== location.origin) throw new Refusal("The model lies on another server, expected this one.");
  const name = decodeURIComponent(url.pathname.split("/").at(-1));
  return complete(name, await fetched(url), (wanted) => fetched(new URL(encodeURIComponent(wanted), url)));
}

async function fetched(url) {
  const name = decodeURIComponent(url.pathname.split("/").at(-1));
  const answer = await fetch(url).catch(() => null);
  if (!answer) throw new Refusal(`The server does not answer when asked for ${name}. Start it, or choose a file.`);
  if (!answer.ok) throw new Refusal(`The server has no ${name} (${answer.status}). Choose a file, or serve it.`);
  return answer.arrayBuffer();
}

async function complete(name, model, read) {
  const metadata = metadataOf(new Uint8Array(model)), { data_file: wanted } = metadata.digests;
  return { name, model, metadata, data: wanted ? await read(wanted) : null };
}
