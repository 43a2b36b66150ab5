// Elements from plain values. Texts only ever become text nodes: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: `h("a", {class: "cite", href, onclick}, "text", child)`. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "data") Object.assign(element.dataset, value);
    else if (value === true) element.setAttribute(key, "");
    else element.setAttribute(key, String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const ICONS = {
  ask: "M4 5h16v11H9l-5 4z",
  documents: "M6 3h8l5 5v13H6zM14 3v5h5",
  measure: "M4 20h16M7 16v-5M12 16V6M17 16v-8",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  close: "M6 6l12 12M18 6L6 18",
  menu: "M4 7h16M4 12h16M4 17h16",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  again: "M20 12a8 8 0 1 1-2.5-5.8M20 3v4h-4",
  why: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM9.5 9.2a2.6 2.6 0 1 1 3.6 2.6c-.8.4-1.1.9-1.1 1.8M12 16.8v.2",
  up: "M7 11v9H4v-9zM7 11l4-8c1.4 0 2.3 1 2.1 2.4L12.5 9H19a1.6 1.6 0 0 1 1.6 1.9l-1.3 7.4A2 2 0 0 1 17.300 20H7",
  down: "M7 13V4H4v9zM7 13l4 8c1.4 0 2.3-1 2.1-2.4L12.500 15H19a1.600 1.600 0 0 0 1.600-1.900l-1.300-7.400A2 2 0 0 0 17.300 4H7",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l4.500 4.500",
  upload: "M12 16V4M7 9l5-5 5 5M4 17v3h16v-3",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  export: "M12 4v12M7 11l5 5 5-5M4 20h16",
  theme: "M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9z",
  key: "M14.500 13.500a4.500 4.500 0 1 0-4-4L4 16v4h4v-2h2v-2h2z",
  external: "M14 4h6v6M20 4l-9 9M18 14v6H4V6h6",
  back: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  check: "M5 12.500l4.500 4.500L19 7.500",
  warning: "M12 4l9 16H3zM12 10v4M12 17v.2",
};

/** Make an icon; it says nothing to screen readers. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Make a button of an icon; its label is what screen readers and the tooltip say. */
export function iconButton(name, label, onclick, properties = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...properties }, icon(name));
}

/** Say of a link whether it leads to what is shown. */
export function markCurrent(link, is) {
  if (is) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

/** Save a text as a file of the reader's. */
export function download(name, text, type = "text/plain") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
