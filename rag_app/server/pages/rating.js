// Right or wrong? What people say is kept on the server, as questions to test it with.

import { h, iconButton } from "./dom.js";
import { t } from "./words.js";
import { json } from "./api.js";
import { cited } from "./export.js";
import { failureText } from "./failure.js";

/** Return the two thumbs of an answer, and the field for what would have been right. */
export function rating(turn, collection, keep, say) {
  const thumbs = h("span", { class: "thumbs" });
  const more = h("div", { class: "correction", hidden: true });
  const show = () => {
    thumbs.replaceChildren(thumb("up", "right"), thumb("down", "wrong"));
  };
  const thumb = (icon, value) => iconButton(icon, t(`rate.${value}`), () => rate(turn.rating === value ? null : value), { "aria-pressed": String(turn.rating === value) });
  const rate = async (value, told = {}) => {
    const base = `page/collections/${encodeURIComponent(collection)}/feedback`;
    turn.id ??= Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    try {
      if (value === null) await json(`${base}/${turn.id}`, { method: "DELETE" });
      else {
        await json(base, { method: "POST", json: {
          id: turn.id, question: turn.rag?.question || turn.question, answer: turn.answer, rating: value,
          passages: cited(turn).map((source) => source.id), ...told,
        } });
      }
    } catch (error) {
      more.replaceChildren(h("p", { class: "wrong", role: "alert" }, failureText(error)));
      more.hidden = false;
      return;
    }
    turn.rating = value;
    keep();
    show();
    if (value === "wrong" && !told.is_unanswerable && told.correction === undefined) correct();
    else {
      more.replaceChildren(value ? h("p", { class: "note" }, t("rate.thanks")) : "");
      more.hidden = !value;
    }
    say(t(value ? "rate.thanks" : "rate.forgotten"));
  };
  const correct = () => {
    const field = h("textarea", { class: "text-field", rows: 2, id: `correction-${turn.id}`, dir: "auto" });
    more.replaceChildren(h("form", { onsubmit: (event) => {
      event.preventDefault();
      rate("wrong", { correction: field.value });
    } },
      h("label", { for: field.id }, t("rate.correction")), field,
      h("div", { class: "row" },
        h("button", { class: "button primary" }, t("rate.send")),
        h("button", { type: "button", class: "button", onclick: () => rate("wrong", { is_unanswerable: true }) }, t("rate.unanswerable")),
        h("button", { type: "button", class: "quiet", onclick: () => { more.hidden = true; } }, t("close")))));
    more.hidden = false;
    field.focus();
  };
  show();
  return { thumbs, more };
}
