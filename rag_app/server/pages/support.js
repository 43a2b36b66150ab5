// Sentences of an answer that its passages do not bear out: marked in it, and listed below.

import { h, icon } from "./dom.js";
import { t } from "./words.js";
import { visible } from "./visible.js";
import { mark } from "./quotes.js";

/** Mark the sentences in the text of a turn, and return their list; null where there are none. */
export function doubts(turn, text) {
  const found = (turn.rag?.support ?? []).filter((sentence) => sentence.marks.length);
  // The server counts characters, and not halves of them.
  const characters = Array.from(turn.answer);
  const told = found.map(({ start, end, marks }) => ({ marks, words: characters.slice(start, end).join("").trim() }));
  mark("doubted", turn, [text], told.map(({ words }) => words));
  if (!found.length) return null;
  return h("details", { class: "doubts" },
    h("summary", {}, icon("warning"), t("support", { count: found.length })),
    h("ul", {}, told.map(({ marks, words }) => h("li", { dir: "auto" }, visible(words), h("small", {}, marks.map((each) => t(`support.${each}`)).join(" · "))))));
}
