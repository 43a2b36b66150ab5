// The field for a question: Enter asks, Shift+Enter begins a new line.

import { h, icon } from "./dom.js";
import { t } from "./words.js";
import { visible } from "./visible.js";

export class Composer {
  #field;
  #button;
  #choice;
  #asking = false;

  constructor(session, collection, ask, stop) {
    this.#field = h("textarea", {
      rows: 1, placeholder: t("ask.placeholder"), "aria-label": t("ask.placeholder"), maxlength: session.max_question, dir: "auto",
      oninput: () => this.#fit(),
      onkeydown: (event) => {
        // While an input method composes, Enter chooses a character (Korean, Chinese, Japanese).
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
          event.preventDefault();
          this.#send(ask);
        }
      },
    });
    this.#button = h("button", { type: "submit", class: "send" });
    const names = session.collections.includes(collection) ? session.collections : [collection, ...session.collections];
    this.#choice = h("select", { "aria-label": t("collection") }, names.map((name) => h("option", { value: name }, visible(name))));
    this.collection = collection;
    this.element = h("form", { class: "composer", onsubmit: (event) => {
      event.preventDefault();
      if (this.#asking) stop();
      else this.#send(ask);
    } },
      h("div", { class: "field" }, this.#field, h("div", { class: "row" }, names.length > 1 ? h("label", { class: "collection" }, this.#choice) : "", this.#button)),
      h("p", { class: "hint" }, t(session.has_llm ? "ask.hint" : "ask.hint.quoted")));
    this.asking = false;
  }

  /** The collection that is asked. */
  get collection() {
    return this.#choice.value;
  }

  set collection(name) {
    this.#choice.value = name;
  }

  /** Whether an answer is being written: the button stops it then. */
  set asking(asking) {
    this.#asking = asking;
    const label = t(asking ? "stop" : "ask");
    this.#button.replaceChildren(icon(asking ? "stop" : "send"));
    this.#button.setAttribute("aria-label", label);
    this.#button.title = label;
    this.#button.classList.toggle("stopping", asking);
    this.#choice.disabled = asking;
  }

  /** Let the reader write, where that brings up no keyboard on the screen. */
  focus() {
    if (matchMedia("(hover: hover)").matches) this.#field.focus({ preventScroll: true });
  }

  /** Put a question into the field. */
  write(question) {
    this.#field.value = question;
    this.#fit();
  }

  #send(ask) {
    const question = this.#field.value.trim();
    if (!question || this.#asking) return;
    this.#field.value = "";
    this.#fit();
    ask(question);
  }

  #fit() {
    this.#field.style.height = "auto";
    this.#field.style.height = `${Math.min(this.#field.scrollHeight, 240)}px`;
  }
}
