// What stands around every view: navigation, conversations, and the panel beside.

import { h, icon, iconButton, markCurrent } from "./dom.js";
import { t } from "./words.js";
import { ConversationList } from "./conversation-list.js";
import { Panel } from "./panel.js";
import { nextTheme } from "./theme.js";

const NAVIGATION = [["ask", "nav.ask"], ["documents", "nav.documents"], ["measure", "nav.measure"]];

export class Shell {
  #session;
  #links = new Map();

  constructor(session, signOut) {
    this.#session = session;
    this.panel = new Panel();
    this.status = h("div", { class: "unseen", role: "status", "aria-live": "polite" });
    this.main = h("main", { id: "main", tabindex: "-1" });
    this.list = new ConversationList(session);
    for (const [name, words] of NAVIGATION) {
      this.#links.set(name, h("a", { href: `#/${name}`, onclick: () => this.#toggle(false) }, icon(name), h("span", {}, t(words))));
    }
    this.#menu = iconButton("menu", t("menu"), () => this.#toggle(!this.#sidebar.classList.contains("open")), { "aria-expanded": "false", "aria-controls": "sidebar" });
    this.#sidebar = h("aside", { id: "sidebar", class: "sidebar", "aria-label": t("menu") },
      h("a", { class: "brand", href: "#/ask" }, h("img", { src: "assets/icon.svg", alt: "", width: 28, height: 28 }), h("span", {}, "rag_app")),
      h("a", { class: "button new", href: "#/ask", onclick: () => this.#toggle(false) }, icon("plus"), h("span", {}, t("ask.new"))),
      h("nav", { "aria-label": t("nav") }, ...this.#links.values()),
      this.list.element,
      h("div", { class: "foot" },
        session.has_keys && h("span", { class: "who", title: session.role }, icon("key"), h("bdi", {}, session.name)),
        session.has_keys && h("button", { type: "button", class: "quiet", onclick: signOut }, t("signout")),
        iconButton("theme", t("theme"), () => this.say(t(`theme.${nextTheme()}`)))));
    this.#shade = h("div", { class: "shade", onclick: () => this.#toggle(false) });
    this.#keys = (event) => {
      if (event.key !== "Escape") return;
      if (this.#sidebar.classList.contains("open")) this.#toggle(false);
      else this.panel.close();
    };
    addEventListener("keydown", this.#keys);
    document.body.replaceChildren(
      h("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); this.main.focus(); } }, t("skip")),
      h("header", { class: "top" }, this.#menu, h("a", { class: "brand", href: "#/ask" }, "rag_app")),
      this.#sidebar, this.#shade, this.main, this.panel.element, this.status);
  }

  #menu;
  #sidebar;
  #shade;
  #keys;
  #view;

  /** Show a view: a function of the shell, the session and the rest of the address. */
  show(name, view, rest) {
    for (const [each, link] of this.#links) markCurrent(link, each === name);
    this.#view?.close?.();
    this.panel.close();
    this.main.className = name;
    document.title = `${t(`nav.${name}`)} · rag_app`;
    this.list.mark(name === "ask" ? rest[0] : undefined);
    this.#view = view(this, this.#session, rest);
  }

  /** Tell those who listen to a screen reader. */
  say(text) {
    this.status.textContent = text;
  }

  /** Let go of what listens to the window. */
  close() {
    removeEventListener("keydown", this.#keys);
    this.#view?.close?.();
    this.list.close();
  }

  #toggle(open) {
    this.#sidebar.classList.toggle("open", open);
    this.#menu.setAttribute("aria-expanded", String(open));
    if (open) this.#sidebar.querySelector("a").focus();
    else if (this.#sidebar.contains(document.activeElement) && this.#menu.offsetParent) this.#menu.focus();
  }
}
