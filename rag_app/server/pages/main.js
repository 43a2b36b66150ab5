// Begin: words, session, and the view that the address names.

import { h } from "./dom.js";
import { json, key } from "./api.js";
import { loadWords } from "./words.js";
import { Shell } from "./shell.js";
import { signIn } from "./views/sign-in.js";
import { showFailure } from "./failure.js";
import { ask } from "./views/ask.js";
import { documents } from "./views/documents.js";
import { measure } from "./views/measure.js";

const VIEWS = { ask, documents, measure };

async function begin() {
  document.body.replaceChildren(h("div", { class: "starting", role: "status" }));
  let session;
  try {
    const [about, models] = await Promise.all([json("page/session"), json("v1/models")]);
    session = { ...about, collections: models.data.map((model) => model.id) };
  } catch (error) {
    if (error.status === 401) return signIn(begin, Boolean(key.get()));
    return document.body.replaceChildren(h("main", { class: "alone" }, showFailure(error, begin)));
  }
  const shell = new Shell(session, () => {
    key.forget();
    begin();
  });
  const route = () => {
    if (shell !== current) return;
    const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
    const view = VIEWS[name] ? name : "ask";
    shell.show(view, VIEWS[view], rest);
  };
  current?.close();
  current = shell;
  onhashchange = route;
  route();
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

let current;
addEventListener("rag-app:sign-in", () => {
  if (current) begin();
});

await loadWords();
begin();
