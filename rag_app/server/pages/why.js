// Why an answer is what it is: how sure it is, what was found and what became of it, and the time.

import { h } from "./dom.js";
import { t, language, percent } from "./words.js";
import { json } from "./api.js";
import { visible } from "./visible.js";

/** Open the panel with the reasons of an answer. */
export function openWhy(panel, collection, turn, open) {
  const { rag } = turn;
  const ledger = h("div", { class: "ledger" }, table(turn, open));
  panel.open(t("why"), h("div", { class: "why" },
    confidence(rag), question(turn),
    h("h3", {}, t("why.found")), ledger,
    rag.notes?.length ? [h("h3", {}, t("why.notes")), h("ul", { class: "plain" }, rag.notes.map((note) => h("li", {}, visible(note))))] : "",
    times(rag.timings_ms)));
  if (!rag.ledger?.length) return;
  // Each search alone is asked now, and not with every question: few look.
  json(`page/collections/${encodeURIComponent(collection)}/scores`, { method: "POST", json: { question: rag.question } })
    .then((scores) => ledger.replaceChildren(table(turn, open, scores)))
    .catch(() => {});
}

function confidence(rag) {
  if (rag.confidence === undefined || rag.confidence === null) return "";
  const meter = h("div", { class: "meter" }, h("i"));
  meter.firstChild.style.width = `${100 * rag.confidence}%`;
  return [
    h("h3", {}, t("why.confidence")),
    h("p", { class: "sure" }, h("strong", {}, percent(rag.confidence)), " ", t(rag.answered === false ? "why.refused" : "why.probability")),
    meter,
    reasons(rag.why ?? []),
  ];
}

function reasons(why) {
  const told = why.filter((reason) => Math.abs(reason.contribution) >= 0.05).sort((one, other) => Math.abs(other.contribution) - Math.abs(one.contribution));
  return h("ul", { class: "reasons" }, told.slice(0, 6).map((reason) => h("li", { data: { speaks: reason.contribution > 0 ? "for" : "against" } },
    h("span", {}, visible(reason.meaning)), h("span", { class: "sign" }, t(reason.contribution > 0 ? "why.for" : "why.against")))));
}

function question(turn) {
  if (turn.rag.question === turn.question) return "";
  return [h("h3", {}, t("why.question")), h("p", { dir: "auto" }, visible(turn.rag.question))];
}

function table(turn, open, scores) {
  const { ledger } = turn.rag;
  if (!ledger?.length) return h("p", { class: "muted" }, t("why.nothing"));
  const heads = ["why.rank", "why.document", "why.fate", "why.score", ...(scores ? ["why.dense", "why.text"] : [])];
  const withTokens = ledger.some((entry) => entry.tokens !== null);
  if (withTokens) heads.push("why.tokens");
  const row = (entry) => {
    const source = turn.sources.find((each) => each.id === entry.id);
    const shown = h("bdi", {}, visible(entry.path));
    return h("tr", {},
      h("td", {}, entry.rank),
      h("td", {}, source ? [h("span", { class: "cite" }, source.number), h("button", { type: "button", class: "link", onclick: () => open(source) }, shown)] : shown),
      h("td", {}, h("span", { class: "fate", data: { fate: entry.fate } }, t(`fate.${entry.fate}`)), entry.reason ? h("small", {}, visible(entry.reason)) : ""),
      h("td", { class: "number" }, number(entry.score)),
      scores ? [h("td", { class: "number" }, place(scores.dense, entry.id)), h("td", { class: "number" }, place(scores.text, entry.id))] : "",
      withTokens ? h("td", { class: "number" }, entry.tokens) : "");
  };
  return h("div", { class: "table", tabindex: "0", role: "region", "aria-label": t("why.found") },
    h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, t(head))))), h("tbody", {}, ledger.map(row))));
}

function place(hits, id) {
  if (!hits) return "–";
  const at = hits.findIndex((hit) => hit.id === id);
  return at < 0 ? h("small", {}, t("why.beyond", { count: hits.length })) : [h("strong", {}, number(hits[at].score)), h("small", {}, t("why.place", { place: at + 1 }))];
}

function number(value) {
  return value === null || value === undefined ? "–" : Number(value).toLocaleString(language, { maximumFractionDigits: 3 });
}

function times(timings = {}) {
  const stages = ["condense", "retrieve", "first_token", "total"].filter((stage) => stage in timings);
  if (!stages.length) return "";
  const most = Math.max(...stages.map((stage) => timings[stage]), 1);
  return [h("h3", {}, t("why.time")), h("dl", { class: "times" }, stages.map((stage) => {
    const bar = h("i");
    bar.style.width = `${(100 * timings[stage]) / most}%`;
    return [h("dt", {}, t(`time.${stage}`)), h("dd", {}, h("span", { class: "bar" }, bar), h("span", {}, `${Math.round(timings[stage]).toLocaleString(language)} ms`))];
  }))];
}
