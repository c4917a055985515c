// Elements, made without a library and without inline styles, which the page's policy forbids.

const SVG = "http://www.w3.org/2000/svg";

/** Return the element of the page with an id. */
export const byId = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Make an element with attributes, listeners (`onclick`) and children. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** Make an element of a drawing. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Set the text of an element if it differs, so that nothing is read out or laid out twice. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Say something at the lower edge for a while. */
export function toast(text) {
  const element = byId("toast");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { element.hidden = true; }, 6000);
}
