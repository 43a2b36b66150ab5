// The panel beside a view: a document at a passage, or why an answer is what it is.

import { h, iconButton } from "./dom.js";
import { t } from "./words.js";

export class Panel {
  #opener;
  #onclose;
  #title = h("h2", { tabindex: "-1" });
  #actions = h("div", { class: "actions" });
  #body = h("div", { class: "body" });

  constructor() {
    this.element = h("aside", { class: "panel", hidden: true, "aria-label": t("panel") },
      h("header", {}, this.#title, this.#actions, iconButton("close", t("close"), () => this.close())), this.#body);
  }

  /** Open it; the focus goes back to where it was when it is closed. `onclose` lets go of what was shown. */
  open(title, content, { actions = [], onclose } = {}) {
    this.#onclose?.();
    this.#onclose = onclose;
    if (!this.element.contains(document.activeElement)) this.#opener = document.activeElement;
    this.#title.replaceChildren(...[title].flat());
    this.#actions.replaceChildren(...actions);
    this.#body.replaceChildren(...[content].flat());
    this.#body.scrollTop = 0;
    this.element.hidden = false;
    document.body.classList.add("beside");
    this.#title.focus({ preventScroll: true });
  }

  /** Close it. */
  close() {
    if (this.element.hidden) return;
    this.element.hidden = true;
    document.body.classList.remove("beside");
    this.#body.replaceChildren();
    this.#onclose?.();
    this.#onclose = undefined;
    if (this.#opener?.isConnected) this.#opener.focus({ preventScroll: true });
    this.#opener = undefined;
  }
}
