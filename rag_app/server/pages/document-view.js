// A document as it was read: to read, as pictures of its pages (PDF), and as it was split.

import { h } from "./dom.js";
import { t } from "./words.js";
import { json } from "./api.js";
import { visible } from "./visible.js";
import { markdown } from "./markdown.js";
import { showFailure } from "./failure.js";
import { PdfPages } from "./pdf-pages.js";
import { mark } from "./quotes.js";

export class DocumentView {
  #collection;
  #id;
  #at;
  #found;
  #pages;
  #tabs = h("div", { class: "tabs", role: "tablist", "aria-label": t("document.as") });
  #shown = h("div", { class: "shown", role: "tabpanel", tabindex: "-1" });

  /** `at`: the `passage` (its id) to show first, and `quotes` to mark in it. */
  constructor(collection, id, at = {}) {
    this.#collection = collection;
    this.#id = id;
    this.#at = at;
    this.element = h("div", { class: "document" }, h("p", { class: "waiting" }, t("document.loading")));
    this.#load();
  }

  /** Let go of the pictures. */
  close() {
    this.#pages?.close();
    mark("quoted", this, [], []);
  }

  async #load() {
    const query = new URLSearchParams({ model: this.#collection });
    try {
      this.#found = await json(`documents/${encodeURIComponent(this.#id)}?${query}`);
    } catch (error) {
      this.element.replaceChildren(showFailure(error, () => this.#load()));
      return;
    }
    const { path, type, passages } = this.#found;
    const tabs = [["text", () => this.#text()], ["split", () => this.#split()]];
    if (type === "pdf") tabs.unshift(["pages", () => this.#showPages()]);
    this.#tabs.replaceChildren(...tabs.map(([name, show]) => this.#tab(name, show)));
    this.#tabs.onkeydown = (event) => this.#turn(event);
    this.element.replaceChildren(
      h("p", { class: "path" }, h("bdi", {}, visible(path)), ` · ${t("documents.passages", { count: passages.length })}`),
      this.#tabs, this.#shown);
    this.#tabs.firstElementChild.click();
  }

  #tab(name, show) {
    return h("button", { type: "button", role: "tab", "aria-selected": "false", tabindex: "-1", onclick: (event) => {
      for (const tab of this.#tabs.children) {
        tab.setAttribute("aria-selected", String(tab === event.currentTarget));
        tab.tabIndex = tab === event.currentTarget ? 0 : -1;
      }
      this.close();
      show();
    } }, t(`document.${name}`));
  }

  // Arrows go from tab to tab, as they do wherever there are tabs.
  #turn(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const tabs = [...this.#tabs.children];
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  }

  #text() {
    const { passages } = this.#found;
    const sections = passages.map((passage, at) => {
      const rest = passage.text.slice(overlap(passages[at - 1], passage));
      return this.#section(passage, passages[at - 1]?.page, markdown(rest, { breaks: this.#found.type === "text" }));
    });
    this.#shown.replaceChildren(h("div", { class: "text" }, sections));
    this.#goTo();
  }

  #section(passage, pageBefore, content) {
    const isCited = passage.id === this.#at.passage;
    return h("section", { class: "passage", "aria-current": isCited ? "location" : null },
      passage.page && passage.page !== pageBefore ? h("span", { class: "page-number" }, t("page", { page: passage.page })) : "",
      content);
  }

  #split() {
    const { passages } = this.#found;
    this.#shown.replaceChildren(h("p", { class: "note" }, t("document.split.note")), h("ol", { class: "split" }, passages.map((passage, at) => {
      const again = overlap(passages[at - 1], passage);
      return h("li", { class: "passage", "aria-current": passage.id === this.#at.passage ? "location" : null },
        h("p", { class: "about" }, h("strong", {}, at + 1), passage.page ? ` · ${t("page", { page: passage.page })}` : "", ` · ${t("document.characters", { count: passage.text.length })}`, passage.headings ? ` · ${visible(passage.headings)}` : ""),
        h("div", { class: "raw", dir: "auto" }, again ? h("span", { class: "again", title: t("document.again") }, visible(passage.text.slice(0, again))) : "", visible(passage.text.slice(again))));
    })));
    this.#goTo();
  }

  async #showPages() {
    const cited = this.#found.passages.find((passage) => passage.id === this.#at.passage);
    this.#pages = new PdfPages(this.#collection, this.#id, cited);
    this.#shown.replaceChildren(this.#pages.element);
  }

  #goTo() {
    const cited = this.#shown.querySelector("[aria-current]");
    if (!cited) return;
    const marked = mark("quoted", this, [cited], this.#at.quotes ?? []);
    (marked ?? cited).scrollIntoView({ block: cited.offsetHeight > 500 && !marked ? "start" : "center" });
  }
}

// Neighbours share their words at the seam; where they do, those are told once.
function overlap(before, passage) {
  if (!before?.end || passage.start === null || passage.start >= before.end) return 0;
  return Math.min(before.end - passage.start, passage.text.length);
}
