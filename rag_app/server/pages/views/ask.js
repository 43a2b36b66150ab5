// Ask: a conversation, and the field to write the next question into.

import { h, icon, iconButton, download } from "../dom.js";
import { t } from "../words.js";
import { visible } from "../visible.js";
import * as conversations from "../conversations.js";
import { conversationAsMarkdown } from "../export.js";
import { answer, newTurn } from "../answering.js";
import { Composer } from "../composer.js";
import { TurnView } from "../turn.js";
import { openDocument } from "../document-panel.js";
import { welcome } from "../welcome.js";

/** Show a conversation, or the beginning of one. */
export function ask(shell, session, rest) {
  return new Ask(shell, session, rest.join("/"));
}

class Ask {
  #shell;
  #session;
  #conversation;
  #views = [];
  #asking;
  #thread = h("div", { class: "thread" });
  #head = h("header", { class: "thread-head" });
  #composer;

  constructor(shell, session, id) {
    this.#shell = shell;
    this.#session = session;
    this.#conversation = conversations.begin(session.name, session.collections.includes(session.collection) ? session.collection : session.collections[0] ?? session.collection);
    this.#composer = new Composer(session, this.#conversation.collection, (question) => this.#ask(question), () => this.#asking?.abort());
    shell.main.replaceChildren(this.#head, this.#thread, this.#composer.element);
    this.#begin(id);
  }

  /** End what is under way: nobody would see it. */
  close() {
    this.#asking?.abort();
  }

  async #begin(id) {
    // A link can hold a question (`#/ask/?…`); whoever follows it sends it, or does not.
    const question = id?.startsWith("?") ? id.slice(1) : "";
    const found = id && await conversations.find(id, this.#session.name).catch(() => undefined);
    if (found) {
      this.#conversation = found;
      this.#composer.collection = found.collection;
      this.#showHead();
      for (const turn of found.turns) this.#add(turn);
      this.#shell.main.scrollTop = this.#shell.main.scrollHeight;
    } else {
      if (question) this.#composer.write(question);
      this.#thread.replaceChildren(welcome(this.#session, this.#conversation.collection));
    }
    this.#composer.focus();
  }

  async #ask(question) {
    if (this.#asking) return;
    const conversation = this.#conversation;
    if (!conversation.turns.length) {
      this.#thread.replaceChildren();
      conversation.title = question.slice(0, 120);
      conversation.collection = this.#composer.collection;
      this.#showHead();
    }
    const turn = newTurn(question);
    conversation.turns.push(turn);
    const view = this.#add(turn);
    await this.#answer(turn, view);
  }

  async #again(turn) {
    const last = this.#conversation.turns.at(-1);
    if (this.#asking || turn !== last) return;
    Object.assign(turn, newTurn(turn.question));
    await this.#answer(turn, this.#views.at(-1));
  }

  async #answer(turn, view) {
    const conversation = this.#conversation;
    const before = conversation.turns.slice(0, -1);
    this.#asking = new AbortController();
    this.#composer.asking = true;
    this.#shell.say(t("answer.begins"));
    view.element.scrollIntoView({ block: "start", behavior: "smooth" });
    await answer(turn, before, conversation.collection, this.#asking.signal, () => view.update());
    this.#asking = undefined;
    this.#composer.asking = false;
    this.#shell.say(t(`answer.${turn.state}`));
    this.#showHead();
    await conversations.keep(conversation).catch(() => {});
    if (conversation === this.#conversation && this.#head.isConnected) {
      // The address names the conversation from now on; the view stays as it is.
      history.replaceState(null, "", `#/ask/${conversation.id}`);
      this.#shell.list.mark(conversation.id);
    }
  }

  #add(turn) {
    for (const view of this.#views) view.isLast = false;
    const view = new TurnView(turn, {
      again: () => this.#again(turn),
      open: (source) => openDocument(this.#shell.panel, this.#conversation.collection, source, turn),
      say: (text) => this.#shell.say(text),
      panel: this.#shell.panel,
      collection: () => this.#conversation.collection,
      keep: () => conversations.keep(this.#conversation).catch(() => {}),
    });
    this.#views.push(view);
    this.#thread.append(view.element);
    return view;
  }

  #showHead() {
    const { title, collection } = this.#conversation;
    const save = () => download(`${collection}.md`, conversationAsMarkdown(this.#conversation), "text/markdown");
    this.#head.replaceChildren(
      h("h1", { dir: "auto", title: visible(title) }, visible(title)),
      this.#session.collections.length > 1 ? h("span", { class: "tag" }, visible(collection)) : "",
      iconButton("export", t("export"), save));
  }
}
