// A document beside the answer, at the passage that was cited.

import { h, icon } from "./dom.js";
import { t } from "./words.js";
import { DocumentView } from "./document-view.js";
import { name } from "./sources.js";

const QUOTATION = /“([^”]*)”\s*\[(\d+(?:\s*[,;]\s*\d+)*)\]/g;

/** Open the document of a source in the panel; what the answer quotes of it is marked. */
export function openDocument(panel, collection, source, turn) {
  const view = new DocumentView(collection, source.document_id, { passage: source.id, quotes: quotesOf(turn, source.number) });
  const apart = source.url && h("a", { class: "icon-button", href: source.url, target: "_blank", rel: "noopener", "aria-label": t("open.apart"), title: t("open.apart") }, icon("external"));
  panel.open(h("span", { dir: "auto" }, name(source)), view.element, { actions: apart ? [apart] : [], onclose: () => view.close() });
}

function quotesOf(turn, number) {
  return Array.from(turn.answer.matchAll(QUOTATION))
    .filter(([, , numbers]) => numbers.split(/[,;]/).map(Number).includes(number))
    .map(([, quote]) => quote);
}
