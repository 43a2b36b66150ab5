// What is shown before the first question: what can be asked, or that there is nothing yet to ask.

import { h, icon } from "./dom.js";
import { t } from "./words.js";
import { json } from "./api.js";
import { visible } from "./visible.js";

/** Return the beginning of a conversation; the documents are told when they are known. */
export function welcome(session, collection) {
  const facts = h("p", { class: "facts", "aria-live": "polite" });
  const begin = h("div", { class: "begin" });
  const element = h("section", { class: "welcome" }, h("h1", {}, t("welcome.title")), facts, begin);
  if (!session.collections.includes(collection)) {
    const mayAdd = session.role !== "reader";
    facts.textContent = t(mayAdd ? "welcome.first" : "welcome.nothing");
    if (mayAdd) begin.append(h("a", { class: "button primary", href: "#/documents" }, icon("upload"), t("welcome.add")));
    return element;
  }
  json(`v1/vector_stores/${encodeURIComponent(collection)}`).then((store) => {
    facts.textContent = t("welcome.facts", { count: store.file_counts.completed, nodes: store.rag.nodes, collection: visible(collection) });
  }).catch(() => {});
  return element;
}
