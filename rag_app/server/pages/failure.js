// What failed, in words that say what to do about it.

import { h, icon } from "./dom.js";
import { t } from "./words.js";
import { visible } from "./visible.js";

/** Return an error's text in the page's language, where it is one that the page knows. */
export function failureText(error) {
  if (error.status === 0) return t("error.away");
  if (error.status === 429) return t("error.busy", { seconds: error.retryAfter || "10" });
  if (error.status === 504) return t("error.slow");
  if (error.code === "role") return t("error.role");
  if (error.status === 502 || error.status === 503) return t("error.service");
  return visible(error.message) || t("error.unknown");
}

/** Return a box that says what failed, with a button to try again. */
export function showFailure(error, again) {
  return h("div", { class: "failure", role: "alert" },
    icon("warning"),
    h("p", {}, failureText(error)),
    again && h("button", { type: "button", class: "button", onclick: again }, t("again")));
}
