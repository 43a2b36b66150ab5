// The conversations in the sidebar: found by their words, opened, deleted.

import { h, iconButton, markCurrent } from "./dom.js";
import { t } from "./words.js";
import { visible } from "./visible.js";
import * as conversations from "./conversations.js";

const SHOWN = 100;

export class ConversationList {
  #session;
  #current;
  #wanted = h("input", { type: "search", placeholder: t("conversations.search"), "aria-label": t("conversations.search"), oninput: () => this.#fill() });
  #rows = h("ul", {});
  #refill = () => this.#fill();

  constructor(session) {
    this.#session = session;
    this.element = h("section", { class: "conversations", "aria-label": t("conversations") }, h("h2", {}, t("conversations")), this.#wanted, this.#rows);
    addEventListener("rag-app:conversations", this.#refill);
    this.#fill();
  }

  /** Mark the conversation that is shown. */
  mark(id) {
    this.#current = id;
    for (const row of this.#rows.querySelectorAll("a")) markCurrent(row, row.dataset.id === id);
  }

  /** Let go of what listens to the window. */
  close() {
    removeEventListener("rag-app:conversations", this.#refill);
  }

  async #fill() {
    const wanted = this.#wanted.value;
    const found = await conversations.search(this.#session.name, wanted).catch(() => []);
    if (wanted !== this.#wanted.value) return;
    this.#rows.replaceChildren(...found.slice(0, SHOWN).map((each) => this.#row(each)));
    this.#wanted.hidden = !found.length && !wanted;
    this.element.hidden = !found.length && !wanted;
    if (!found.length && wanted) this.#rows.append(h("li", { class: "muted" }, t("conversations.none")));
    this.mark(this.#current);
  }

  #row(each) {
    const remove = async () => {
      await conversations.remove(each.id);
      if (each.id === this.#current) location.hash = "#/ask";
    };
    return h("li", {},
      h("a", { href: `#/ask/${each.id}`, data: { id: each.id }, title: visible(each.title), dir: "auto" }, visible(each.title)),
      iconButton("trash", `${t("delete")}: ${visible(each.title)}`, remove));
  }
}
