// Files on their way into a collection: chosen or dropped, sent, read; each says how far it is.

import { h, icon } from "./dom.js";
import { t, bytes } from "./words.js";
import { ApiError, call, events, json, key } from "./api.js";
import { visible } from "./visible.js";
import { failureText } from "./failure.js";

const AT_ONCE = 2;

export class Uploads {
  #collection;
  #session;
  #done;
  #say;
  #waiting = [];
  #working = 0;
  #stopping = new AbortController();

  /** `done` is called when a file is in the collection. */
  constructor(collection, session, done, say) {
    this.#collection = collection;
    this.#session = session;
    this.#done = done;
    this.#say = say;
    const input = h("input", { type: "file", multiple: true, hidden: true, "aria-label": t("upload"), onchange: () => {
      this.add(input.files);
      input.value = "";
    } });
    this.button = h("span", { class: "upload" }, input, h("button", { type: "button", class: "button primary", onclick: () => input.click() }, icon("upload"), t("upload")));
    this.element = h("ul", { class: "uploads", "aria-label": t("uploads") });
  }

  /** Take files that are dropped onto an element. */
  acceptDrops(element) {
    const isFiles = (event) => event.dataTransfer?.types.includes("Files");
    const listen = (name, act) => element.addEventListener(name, (event) => {
      if (!isFiles(event)) return;
      event.preventDefault();
      act(event);
    }, { signal: this.#stopping.signal });
    listen("dragover", () => element.classList.add("dropping"));
    listen("dragleave", (event) => { if (!element.contains(event.relatedTarget)) element.classList.remove("dropping"); });
    listen("drop", (event) => {
      element.classList.remove("dropping");
      this.add(event.dataTransfer.files);
    });
  }

  /** Send files. */
  add(files) {
    for (const file of files) {
      const bar = h("progress", { max: 1, value: 0, "aria-label": visible(file.name) });
      const state = h("span", { class: "note", role: "status" }, t("upload.waiting"));
      const row = h("li", {}, h("bdi", { class: "name" }, visible(file.name)), h("span", { class: "muted" }, bytes(file.size)), bar, state);
      this.element.prepend(row);
      this.#waiting.push({ file, bar, state, row });
    }
    this.#next();
  }

  /** Stop listening; what is sent is read to its end by the server. */
  close() {
    this.#stopping.abort();
  }

  #next() {
    while (this.#working < AT_ONCE && this.#waiting.length) {
      this.#working += 1;
      this.#send(this.#waiting.shift()).finally(() => {
        this.#working -= 1;
        this.#next();
      });
    }
  }

  async #send({ file, bar, state, row }) {
    const base = `v1/vector_stores/${encodeURIComponent(this.#collection)}/files`;
    try {
      if (file.size > this.#session.max_file_size) throw new ApiError(413, t("upload.large", { size: bytes(this.#session.max_file_size) }));
      state.textContent = t("upload.sending");
      const kept = await send(file, (share) => { bar.value = share / 2; });
      state.textContent = t("upload.in_progress");
      await json(base, { method: "POST", json: { file_id: kept.id } });
      const ended = await watch(this.#collection, kept.id, (progress) => {
        bar.value = 0.5 + progress.share / 2;
        state.textContent = t("upload.reading", { count: progress.nodes });
      });
      if (ended.status !== "completed") throw new ApiError(422, ended.last_error?.message ?? ended.status);
      row.dataset.state = "done";
      state.textContent = t("upload.completed");
      this.#say(`${visible(file.name)}: ${t("upload.completed")}`);
    } catch (error) {
      row.dataset.state = "failed";
      state.textContent = failureText(error);
      this.#say(`${visible(file.name)}: ${failureText(error)}`);
    }
    bar.value = 1;
    if (!this.#stopping.signal.aborted && row.dataset.state === "done") {
      if (!this.#session.collections.includes(this.#collection)) this.#session.collections.push(this.#collection);
      this.#done();
    }
  }
}

/** Watch a file on its way and return the last that is told of it. */
export async function watch(collection, id, progress) {
  const response = await call(`v1/vector_stores/${encodeURIComponent(collection)}/files/${id}/events`);
  let last = { status: "failed" };
  for await (const event of events(response)) {
    last = event;
    if (event.progress) progress(event.progress);
  }
  return last;
}

// `fetch` does not tell how much of a body is sent.
function send(file, progress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("purpose", "assistants");
    form.append("file", file);
    const request = new XMLHttpRequest();
    request.open("POST", "v1/files");
    request.responseType = "json";
    if (key.get()) request.setRequestHeader("Authorization", `Bearer ${key.get()}`);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(new ApiError(0, ""));
    request.onload = () => {
      const { error, ...kept } = request.response ?? {};
      if (request.status < 300) resolve(kept);
      else reject(new ApiError(request.status, error?.message ?? "", error?.code));
    };
    request.send(form);
  });
}
