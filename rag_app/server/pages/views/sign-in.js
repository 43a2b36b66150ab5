// The key is asked for where the server has keys; it stays in this tab's session storage.

import { h } from "../dom.js";
import { key } from "../api.js";
import { t } from "../words.js";

/** Ask for a key, and go on with it. `wasWrong`: the one that was given is none. */
export function signIn(then, wasWrong) {
  key.forget();
  const input = h("input", { type: "password", id: "key", autocomplete: "current-password", required: true, spellcheck: "false", "aria-describedby": "key-help" });
  const form = h("form", { class: "card", onsubmit: (event) => {
    event.preventDefault();
    if (!input.value.trim()) return;
    key.set(input.value.trim());
    then();
  } },
    h("h1", {}, "rag_app"),
    h("p", {}, t("signin.intro")),
    wasWrong && h("p", { class: "wrong", role: "alert" }, t("signin.wrong")),
    h("label", { for: "key" }, t("signin.key")),
    input,
    h("p", { id: "key-help", class: "muted" }, t("signin.help")),
    h("button", { class: "button primary" }, t("signin.button")));
  document.body.replaceChildren(h("main", { class: "alone" }, form));
  input.focus();
}
