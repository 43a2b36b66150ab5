// One question and its answer, as they are shown.

import { h, icon, iconButton } from "./dom.js";
import { t, percent } from "./words.js";
import { visible } from "./visible.js";
import { grow } from "./markdown.js";
import { citer } from "./citations.js";
import { answerAsMarkdown, cited } from "./export.js";
import { showFailure } from "./failure.js";
import { name } from "./sources.js";
import { openWhy } from "./why.js";
import { rating } from "./rating.js";
import { doubts } from "./support.js";

export class TurnView {
  #turn;
  #with;
  #shown = [];
  #waits = false;
  #text = h("div", { class: "answer" });
  #foot = h("div", { class: "turn-foot" });
  #isLast = true;

  /** `using`: what the buttons of an answer do (`again`, `open`, …). */
  constructor(turn, using) {
    this.#turn = turn;
    this.#with = using;
    this.element = h("article", { class: "turn", "aria-label": visible(turn.question) },
      h("h2", { class: "question", dir: "auto" }, visible(turn.question)), this.#text, this.#foot);
    this.#show();
  }

  /** Whether it may be tried again: only the last one of a conversation. */
  set isLast(isLast) {
    this.#isLast = isLast;
    this.#show();
  }

  /** Show what came since; at most once a frame, however fast the pieces come. */
  update() {
    if (this.#turn.state !== "streaming") return this.#show();
    if (this.#waits) return;
    this.#waits = true;
    requestAnimationFrame(() => {
      this.#waits = false;
      this.#show();
    });
  }

  #show() {
    const turn = this.#turn;
    const streaming = turn.state === "streaming";
    this.element.dataset.state = turn.state;
    this.element.setAttribute("aria-busy", String(streaming));
    const cite = citer(() => turn.sources, this.#with.open);
    // Citations become links when the sources are known: with the last event.
    if (!streaming) this.#shown = [];
    if (!this.#shown.length) this.#text.replaceChildren();
    // The server says it in English; the page says it in the reader's language.
    const refused = turn.rag?.answered === false;
    this.#text.classList.toggle("refused", refused);
    this.#shown = grow(this.#text, refused ? t("answer.refused") : turn.answer, { cite, breaks: true }, this.#shown);
    if (streaming && !turn.answer) this.#text.replaceChildren(h("p", { class: "waiting" }, h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")), t("answer.searching")));
    this.#foot.replaceChildren(...(streaming ? [] : this.#ended().filter(Boolean)));
  }

  #ended() {
    const turn = this.#turn;
    const parts = [];
    if (turn.state === "failed") parts.push(showFailure(turn.error, this.#isLast ? this.#with.again : null));
    if (turn.state === "stopped") parts.push(h("p", { class: "note" }, t("answer.stopped")));
    if (turn.cut) parts.push(h("p", { class: "note" }, t("answer.cut")));
    if (turn.rag?.certain === false && turn.rag.answered !== false) parts.push(h("p", { class: "note uncertain" }, icon("warning"), t("answer.uncertain")));
    if (turn.rag?.answered !== false) parts.push(doubts(turn, this.#text));
    if (turn.sources.length) parts.push(this.#sources());
    if (turn.state !== "failed" || turn.answer) parts.push(...this.#actions());
    return parts;
  }

  #sure() {
    const { confidence } = this.#turn.rag;
    if (confidence === undefined || confidence === null || this.#turn.rag.answered === false) return "";
    return h("span", { class: "tag" }, t("answer.sure", { share: percent(confidence) }));
  }

  #sources() {
    const refused = this.#turn.rag?.answered === false;
    const used = new Set(refused ? [] : cited(this.#turn).map((source) => source.number));
    const row = (source) => h("li", {},
      h("button", { type: "button", class: "source", onclick: () => this.#with.open(source), "aria-label": t("source.label", { number: source.number, name: name(source) }) },
        h("span", { class: "cite" }, source.number),
        h("span", { class: "name", dir: "auto" }, name(source)),
        h("span", { class: "path" }, h("bdi", {}, visible(source.path)), source.page ? ` · ${t("page", { page: source.page })}` : "")));
    const inAnswer = this.#turn.sources.filter((source) => used.has(source.number));
    const others = this.#turn.sources.filter((source) => !used.has(source.number)).reverse();
    return h("div", { class: "sources" },
      inAnswer.length ? [h("h3", {}, t("sources")), h("ul", {}, inAnswer.map(row))] : "",
      others.length ? h("details", { open: refused }, h("summary", {}, t(inAnswer.length ? "sources.also" : "sources.nearest", { count: others.length })), h("ul", {}, others.map(row))) : "");
  }

  #actions() {
    const copy = async () => {
      await navigator.clipboard.writeText(answerAsMarkdown(this.#turn));
      this.#with.say(t("copied"));
      button.replaceChildren(icon("check"));
      setTimeout(() => button.replaceChildren(icon("copy")), 1500);
    };
    const button = iconButton("copy", t("copy"), copy);
    const { collection, panel, open, keep, say } = this.#with;
    const rated = this.#turn.state === "done" && this.#turn.rag?.kind === "answer" ? rating(this.#turn, collection(), keep, say) : null;
    return [h("div", { class: "actions" },
      button,
      this.#isLast && iconButton("again", t("again"), this.#with.again),
      this.#turn.rag && h("button", { type: "button", class: "text-button", onclick: () => openWhy(panel, collection(), this.#turn, open) }, icon("why"), t("why"), this.#sure()),
      rated?.thumbs), rated?.more];
  }
}
