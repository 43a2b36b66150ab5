// The pages of a PDF as pictures, each fetched when it comes near; the passage's boxes over them.

import { h } from "./dom.js";
import { t } from "./words.js";
import { call, json } from "./api.js";
import { showFailure } from "./failure.js";

export class PdfPages {
  #base;
  #cited;
  #urls = [];
  #closed = false;
  #seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      this.#seen.unobserve(entry.target);
      this.#fetch(entry.target);
    }
  }, { rootMargin: "800px" });

  /** `cited`: the passage to show first, with its `page` and `boxes`. */
  constructor(collection, id, cited) {
    this.#base = `page/collections/${encodeURIComponent(collection)}/documents/${encodeURIComponent(id)}/pages`;
    this.#cited = cited;
    this.element = h("div", { class: "pages" }, h("p", { class: "waiting" }, t("document.loading")));
    this.#load();
  }

  /** Let go of the pictures. */
  close() {
    this.#closed = true;
    this.#seen.disconnect();
    for (const url of this.#urls) URL.revokeObjectURL(url);
  }

  async #load() {
    try {
      const { pages, changed } = await json(this.#base);
      this.element.replaceChildren(
        changed ? h("p", { class: "note" }, t("document.changed")) : "",
        ...pages.map((size, at) => this.#page(at + 1, size)));
      const box = this.element.querySelector(".box") ?? this.element.querySelector("[aria-current]");
      box?.scrollIntoView({ block: box.matches(".box") ? "center" : "start" });
    } catch (error) {
      this.element.replaceChildren(showFailure(error));
    }
  }

  #page(number, [width, height]) {
    const boxes = (this.#cited?.boxes ?? []).filter(([page]) => page === number);
    const isCited = boxes.length > 0 || this.#cited?.page === number;
    const frame = h("div", { class: "page", data: { number } }, boxes.map((box) => overlay(box, width, height)));
    frame.style.aspectRatio = `${width} / ${height}`;
    this.#seen.observe(frame);
    return h("figure", { "aria-current": isCited ? "location" : null }, frame, h("figcaption", {}, t("page", { page: number })));
  }

  async #fetch(frame) {
    const { number } = frame.dataset;
    try {
      const picture = await (await call(`${this.#base}/${number}`, { headers: { Accept: "image/png" } })).blob();
      if (this.#closed) return;
      const url = URL.createObjectURL(picture);
      this.#urls.push(url);
      frame.prepend(h("img", { src: url, alt: t("document.picture", { page: Number(number) }) }));
    } catch (error) {
      if (!this.#closed) frame.prepend(showFailure(error));
    }
  }
}

function overlay([, left, top, right, bottom], width, height) {
  const box = h("div", { class: "box" });
  const percent = (value, of) => `${(100 * value) / of}%`;
  box.style.left = percent(left, width);
  box.style.top = percent(top, height);
  box.style.width = percent(right - left, width);
  box.style.height = percent(bottom - top, height);
  return box;
}
