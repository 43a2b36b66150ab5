// `[1]` in an answer: shows its passage when pointed at, and opens the document when followed.

import { h } from "./dom.js";
import { t } from "./words.js";
import { visible } from "./visible.js";
import { name } from "./sources.js";

const SHOWN = 420;
const card = h("div", { class: "hover-card", id: "hover-card", role: "tooltip", hidden: true });
let waiting;

card.addEventListener("pointerenter", () => clearTimeout(waiting));
card.addEventListener("pointerleave", () => hide());
addEventListener("scroll", () => hide(0), { capture: true, passive: true });
addEventListener("keydown", (event) => event.key === "Escape" && hide(0));

/** Return what makes nodes of citations: `sources()` are those of the answer, `open` shows one. */
export function citer(sources, open) {
  return (numbers) => h("span", { class: "cites" }, numbers.map((number) => {
    const source = sources().find((each) => each.number === number);
    // While the answer is written nobody knows yet; and a model can write a number that is none.
    if (!source) return h("span", { class: "cite pending" }, number);
    return citation(source, open);
  }));
}

function citation(source, open) {
  let touched = false;
  const link = h("a", {
    href: source.url ?? "#", class: "cite", data: { number: source.number },
    "aria-label": t("source.label", { number: source.number, name: name(source) }),
    "aria-describedby": "hover-card",
    onpointerdown: (event) => { touched = event.pointerType === "touch"; },
    onpointerenter: (event) => event.pointerType !== "touch" && show(link, source),
    onpointerleave: () => hide(),
    onfocus: () => link.matches(":focus-visible") && show(link, source),
    onblur: () => hide(),
    onclick: (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      // A finger cannot hover: the first tap shows the passage, its button opens the document.
      if (touched) return show(link, source, () => open(source));
      hide(0);
      open(source);
    },
  }, source.number);
  return link;
}

function show(link, source, open) {
  clearTimeout(waiting);
  const text = source.text.replace(/^\s*#+\s+/gm, "").replace(/\s+/g, " ").trim();
  card.replaceChildren(
    h("strong", { dir: "auto" }, name(source)),
    h("small", {}, h("bdi", {}, visible(source.path)), source.page ? ` · ${t("page", { page: source.page })}` : ""),
    h("p", { dir: "auto" }, visible(text.slice(0, SHOWN)), text.length > SHOWN ? "…" : ""),
    open ? h("button", { type: "button", class: "button", onclick: () => { hide(0); open(); } }, t("open.beside")) : "");
  document.body.append(card);
  card.hidden = false;
  place(link.getBoundingClientRect());
}

function place(link) {
  const { width, height } = card.getBoundingClientRect();
  const left = Math.max(8, Math.min(link.left - 24, innerWidth - width - 8));
  const above = link.top - height - 8;
  card.style.left = `${left}px`;
  card.style.top = `${above > 8 ? above : link.bottom + 8}px`;
}

function hide(after = 160) {
  clearTimeout(waiting);
  waiting = setTimeout(() => { card.hidden = true; }, after);
}
