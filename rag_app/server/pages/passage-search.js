// Passages that are near to a question, without an answer.

import { h } from "./dom.js";
import { t } from "./words.js";
import { json } from "./api.js";
import { visible } from "./visible.js";

const MOST = 20;
const SHOWN = 320;

/** Return a list of passages like `wanted`; `open` is given the one that is chosen. */
export async function passagesLike(collection, wanted, open) {
  const { data } = await json(`v1/vector_stores/${encodeURIComponent(collection)}/search`, { method: "POST", json: { query: wanted, max_num_results: MOST } });
  if (!data.length) return h("p", { class: "nothing" }, t("documents.none"));
  return h("ul", { class: "passage-list" }, data.map((row) => h("li", {}, result(row, open))));
}

function result(row, open) {
  const { title, path, page } = row.attributes;
  const source = { id: row.rag.node_id, document_id: row.file_id.replace(/^file-/, ""), title, path: path ?? row.filename };
  const text = row.content.map((part) => part.text).join("\n").replace(/\s+/g, " ").trim();
  return h("button", { type: "button", onclick: () => open(source) },
    h("strong", { dir: "auto" }, visible(title || source.path)),
    h("small", {}, h("bdi", {}, visible(source.path)), page ? ` · ${t("page", { page })}` : ""),
    h("span", { dir: "auto" }, visible(text.slice(0, SHOWN)), text.length > SHOWN ? "…" : ""));
}
