// A collection's state in words: what made it, its index, and what is not as configured.

import { h, icon } from "./dom.js";
import { t, bytes } from "./words.js";
import { json } from "./api.js";
import { visible } from "./visible.js";
import { showFailure } from "./failure.js";

/** Show the state in an element; nothing where there is no such collection yet. */
export async function collectionState(collection, element, session) {
  try {
    const state = await json(`page/collections/${encodeURIComponent(collection)}`);
    element.replaceChildren(...words(state, session));
  } catch (error) {
    element.replaceChildren(error.status === 404 ? "" : showFailure(error));
  }
}

function words(state, session) {
  const { made_by: made, index } = state;
  const figures = [
    [t("state.documents"), state.documents],
    [t("state.passages"), state.nodes],
    [t("state.read"), bytes(state.size)],
  ].map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, typeof value === "number" ? value.toLocaleString() : value)));
  const drift = [state.mismatch, ...state.differs].filter(Boolean);
  const facts = [
    made.model && t("state.model", { model: visible(made.model), dimension: made.dimension ?? "?" }),
    made.size && t(made.unit === "characters" ? "state.split.characters" : "state.split.tokens", { size: made.size, overlap: made.overlap }),
    index.type && t("state.index", { type: index.type, metric: index.metric, parameters: parameters(index), backend: visible(state.backend) }),
    session.has_llm ? t("state.llm", { model: visible(session.model ?? "?") }) : t("state.quoted"),
  ].filter(Boolean);
  return [
    h("dl", { class: "figures" }, figures),
    h("details", {}, h("summary", {}, icon(drift.length ? "warning" : "check"), t(drift.length ? "state.differs" : "state.same")),
      drift.length ? h("ul", { class: "drift" }, drift.map((each) => h("li", {}, visible(each))), state.remedy ? h("li", {}, visible(state.remedy)) : "") : "",
      h("ul", { class: "plain" }, facts.map((fact) => h("li", {}, fact)))),
  ];
}

function parameters(index) {
  const told = Object.entries({ ...index.params, ...index.search_params }).map(([name, value]) => `${name} ${value}`);
  return told.length ? ` (${told.join(", ")})` : "";
}
