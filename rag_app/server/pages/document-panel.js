// A document beside the answer, at the passage that was cited.

import { h, icon } from "./dom.js";
import { t } from "./words.js";
import { json } from "./api.js";
import { visible } from "./visible.js";
import { markdown } from "./markdown.js";
import { showFailure } from "./failure.js";
import { name } from "./sources.js";

/** Open the document of a source in the panel. */
export async function openDocument(panel, collection, source) {
  const title = h("span", { dir: "auto" }, name(source));
  const content = h("div", { class: "document" }, h("p", { class: "waiting" }, t("document.loading")));
  panel.open(title, content);
  const id = source.document_id || source.id;
  try {
    const found = await json(`documents/${encodeURIComponent(id)}?model=${encodeURIComponent(collection)}`);
    content.replaceChildren(
      h("p", { class: "path" }, h("bdi", {}, visible(found.path))),
      ...found.passages.map((passage) => section(passage, passage.id === source.id)));
    content.querySelector("[aria-current]")?.scrollIntoView({ block: "center" });
  } catch (error) {
    content.replaceChildren(showFailure(error, () => openDocument(panel, collection, source)));
  }
}

function section(passage, isCited) {
  return h("section", { class: "passage", "aria-current": isCited ? "location" : null },
    passage.page ? h("span", { class: "page-number" }, t("page", { page: passage.page })) : "",
    markdown(passage.text));
}
