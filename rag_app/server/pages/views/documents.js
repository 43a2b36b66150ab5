// Documents: the collection's state, what is in it, and how to add and remove.

import { h, icon, iconButton } from "../dom.js";
import { t, bytes } from "../words.js";
import { json } from "../api.js";
import { visible } from "../visible.js";
import { showFailure, failureText } from "../failure.js";
import { DocumentView } from "../document-view.js";
import { Uploads, watch } from "../uploads.js";
import { collectionState } from "../collection-state.js";
import { passagesLike } from "../passage-search.js";
import { name } from "../sources.js";

const PAGE = 100;

/** Show the documents of a collection; the address names it, and perhaps one of them. */
export function documents(shell, session, [collection]) {
  return new Documents(shell, session, collection || session.collection);
}

class Documents {
  #shell;
  #session;
  #collection;
  #asked = 0;
  #mayWrite;
  #state = h("section", { class: "state" });
  #list = h("div", { class: "rows" });
  #count = h("p", { class: "muted", role: "status" });
  #wanted = h("input", { type: "search", placeholder: t("documents.search"), "aria-label": t("documents.search"), oninput: () => this.#later() });
  #type = h("select", { "aria-label": t("documents.type"), onchange: () => this.#fill() });
  #inside = h("input", { type: "checkbox", id: "inside", onchange: () => this.#fill() });
  #uploads;
  #waits;

  constructor(shell, session, collection) {
    this.#shell = shell;
    this.#session = session;
    this.#collection = collection;
    this.#mayWrite = session.role !== "reader";
    this.#uploads = new Uploads(collection, session, () => this.#refresh(), (text) => shell.say(text));
    const names = session.collections.includes(collection) ? session.collections : [collection, ...session.collections];
    const choice = h("select", { "aria-label": t("collection"), onchange: (event) => { location.hash = `#/documents/${encodeURIComponent(event.target.value)}`; } },
      names.map((each) => h("option", { value: each, selected: each === collection }, visible(each))));
    shell.main.replaceChildren(
      h("header", { class: "view-head" }, h("h1", {}, t("nav.documents")), names.length > 1 ? choice : h("span", { class: "tag" }, visible(collection)),
        this.#mayWrite && this.#uploads.button),
      this.#state,
      this.#mayWrite && this.#uploads.element,
      h("div", { class: "tools" }, this.#wanted, this.#type, h("label", { class: "check", for: "inside" }, this.#inside, t("documents.inside"))),
      this.#count, this.#list);
    if (this.#mayWrite) this.#uploads.acceptDrops(shell.main);
    this.#refresh();
  }

  close() {
    clearTimeout(this.#waits);
    this.#uploads.close();
  }

  #refresh() {
    collectionState(this.#collection, this.#state, this.#session);
    return this.#fill();
  }

  #later() {
    clearTimeout(this.#waits);
    this.#waits = setTimeout(() => this.#fill(), 200);
  }

  async #fill() {
    const asked = this.#asked += 1;
    const wanted = this.#wanted.value.trim();
    try {
      if (this.#inside.checked && wanted) {
        const found = await passagesLike(this.#collection, wanted, (source) => this.#open(source.document_id, name(source), source.id));
        if (asked !== this.#asked) return;
        this.#count.textContent = "";
        this.#list.replaceChildren(found);
        return;
      }
      const page = await this.#page(0);
      if (asked !== this.#asked) return;
      this.#showTypes(page.types);
      this.#count.textContent = page.found === page.all ? "" : t("documents.found", { count: page.found, all: page.all });
      this.#list.replaceChildren(page.documents.length ? this.#rows(page) : this.#empty(page));
    } catch (error) {
      if (asked !== this.#asked) return;
      this.#list.replaceChildren(error.status === 404 ? this.#empty({ all: 0 }) : showFailure(error, () => this.#fill()));
    }
  }

  #page(offset) {
    const query = new URLSearchParams({ q: this.#wanted.value.trim(), type: this.#type.value, offset, limit: PAGE });
    return json(`page/collections/${encodeURIComponent(this.#collection)}/documents?${query}`);
  }

  #showTypes(types) {
    const chosen = this.#type.value;
    this.#type.replaceChildren(h("option", { value: "" }, t("documents.types")), ...types.map((type) => h("option", { value: type, selected: type === chosen }, visible(type))));
    this.#type.hidden = types.length < 2;
  }

  #empty({ all }) {
    if (all) return h("p", { class: "nothing" }, t("documents.none"));
    return h("div", { class: "nothing" }, icon("documents"), h("p", {}, t(this.#mayWrite ? "documents.first" : "welcome.nothing")));
  }

  #rows(page) {
    const rows = h("ul", { class: "document-list" }, page.documents.map((each) => this.#row(each)));
    let shown = page.documents.length;
    if (shown >= page.found) return rows;
    const more = h("button", { type: "button", class: "button more", onclick: async () => {
      const next = await this.#page(shown);
      rows.append(...next.documents.map((each) => this.#row(each)));
      shown += next.documents.length;
      if (shown >= next.found) more.remove();
    } }, t("documents.more"));
    return h("div", {}, rows, more);
  }

  #row(each) {
    const title = visible(each.title || each.path);
    const note = h("span", { class: "note", role: "status" });
    const row = h("li", {},
      h("span", { class: "kind" }, visible(each.type.slice(0, 8))),
      h("button", { type: "button", class: "link", onclick: () => this.#open(each.id, title) }, h("span", { class: "name", dir: "auto" }, title), h("span", { class: "path" }, h("bdi", {}, visible(each.path)))),
      note,
      h("span", { class: "facts" }, `${t("documents.passages", { count: each.nodes })} · ${bytes(each.size)}`),
      this.#mayWrite && h("span", { class: "actions" },
        iconButton("again", `${t("documents.again")}: ${title}`, () => this.#again(each, note)),
        iconButton("trash", `${t("documents.remove")}: ${title}`, () => this.#confirm(each, row, title))));
    return row;
  }

  #open(id, title, passage) {
    const view = new DocumentView(this.#collection, id, { passage });
    this.#shell.panel.open(h("span", { dir: "auto" }, title), view.element, { onclose: () => view.close() });
  }

  async #again(each, note) {
    note.textContent = t("upload.in_progress");
    try {
      const base = `page/collections/${encodeURIComponent(this.#collection)}/documents/${each.id}`;
      await json(`${base}/ingest`, { method: "POST" });
      const ended = await watch(this.#collection, each.file_id, () => {});
      note.textContent = ended.last_error ? visible(ended.last_error.message) : t("documents.read");
    } catch (error) {
      note.textContent = failureText(error);
    }
  }

  #confirm(each, row, title) {
    const remove = async () => {
      try {
        await json(`v1/vector_stores/${encodeURIComponent(this.#collection)}/files/${each.file_id}`, { method: "DELETE" });
        this.#shell.say(t("documents.removed", { name: title }));
        await this.#refresh();
      } catch (error) {
        row.replaceChildren(showFailure(error, () => this.#fill()));
      }
    };
    const no = h("button", { type: "button", class: "button", onclick: () => row.replaceWith(this.#row(each)) }, t("cancel"));
    row.replaceChildren(h("span", { class: "question-row" }, t("documents.sure", { name: title })), h("button", { type: "button", class: "button danger", onclick: remove }, t("documents.remove")), no);
    no.focus();
  }
}
