// Measure: reports of evaluations, pictures of benchmarks, and what people say of answers.

import { h, iconButton, download } from "../dom.js";
import { t, when, bytes } from "../words.js";
import { call, json } from "../api.js";
import { visible } from "../visible.js";
import { showFailure } from "../failure.js";

/** Show what was measured, as far as the key may see it. */
export function measure(shell, session) {
  const reports = h("section", { "aria-labelledby": "reports" });
  const said = h("section", { "aria-labelledby": "said" });
  shell.main.replaceChildren(h("header", { class: "view-head" }, h("h1", {}, t("nav.measure"))), said, reports);
  const urls = [];
  fillReports(reports, session, urls);
  fillSaid(said, session);
  return { close: () => urls.forEach((url) => URL.revokeObjectURL(url)) };
}

async function fillReports(section, session, urls) {
  const head = h("h2", { id: "reports" }, t("measure.reports"));
  if (session.role !== "admin") return section.replaceChildren(head, h("p", { class: "muted" }, t("measure.admin")));
  try {
    const { folder, reports } = await json("page/reports");
    section.replaceChildren(head, reports.length ? "" : h("div", { class: "nothing" }, h("p", {}, t("measure.none", { folder })), h("pre", {}, h("code", {}, commands(folder)))),
      ...reports.map((report) => entry(report, urls)));
    section.querySelector("details")?.setAttribute("open", "");
  } catch (error) {
    section.replaceChildren(head, showFailure(error, () => fillReports(section, session, urls)));
  }
  return undefined;
}

function commands(folder) {
  return `rag-app eval questions.jsonl --html ${folder}/eval.html\nrag-app index bench --picture ${folder}/recall.png`;
}

function entry(report, urls) {
  const name = visible(report.name);
  const content = h("div", { class: "report" });
  const show = async () => {
    if (content.childElementCount) return;
    if (report.kind === "html") content.append(h("iframe", { src: report.url, title: name, sandbox: "", loading: "lazy" }));
    else if (report.kind === "png") {
      const url = URL.createObjectURL(await (await call(report.url)).blob());
      urls.push(url);
      content.append(h("img", { src: url, alt: name }));
    } else content.append(tree(await json(report.url)));
  };
  return h("details", { class: "report-entry", ontoggle: (event) => event.target.open && show().catch((error) => content.replaceChildren(showFailure(error))) },
    h("summary", {}, h("strong", {}, name), h("span", { class: "muted" }, `${when(report.made)} · ${bytes(report.size)}`),
      h("a", { href: report.url, target: "_blank", rel: "noopener" }, t("open.apart"))),
    content);
}

function tree(value, depth = 0) {
  if (value === null || typeof value !== "object") return h("span", {}, visible(value));
  const entries = Object.entries(value).slice(0, 200);
  return h("ul", { class: "tree" }, entries.map(([name, each]) => {
    const isLeaf = each === null || typeof each !== "object";
    return h("li", {}, isLeaf ? [h("span", { class: "muted" }, visible(name)), " ", h("span", {}, visible(each))] : h("details", { open: depth < 1 }, h("summary", {}, visible(name)), depth < 8 ? tree(each, depth + 1) : ""));
  }));
}

async function fillSaid(section, session) {
  const head = h("h2", { id: "said" }, t("measure.said"));
  if (session.role === "reader" || !session.collections.length) return section.replaceChildren(head, h("p", { class: "muted" }, t("measure.said.none")));
  section.replaceChildren(head);
  for (const collection of session.collections) {
    try {
      const { file, lines } = await json(`page/collections/${encodeURIComponent(collection)}/feedback`);
      if (lines.length) section.append(ratings(collection, file, lines));
    } catch (error) {
      section.append(showFailure(error));
    }
  }
  if (section.childElementCount === 1) section.append(h("p", { class: "muted" }, t("measure.said.none")));
  return undefined;
}

function ratings(collection, file, lines) {
  const right = lines.filter((line) => line.rating === "right").length;
  const save = () => download(`${collection}.jsonl`, lines.toReversed().map((line) => `${JSON.stringify(line)}\n`).join(""), "application/x-ndjson");
  return h("div", { class: "card-block" },
    h("header", {}, h("h3", {}, visible(collection)), h("span", { class: "muted" }, t("measure.rated", { count: lines.length, right, wrong: lines.length - right })), iconButton("export", t("measure.save"), save)),
    h("pre", {}, h("code", {}, `rag-app --collection ${visible(collection)} eval ${visible(file)}`)),
    h("ul", { class: "said" }, lines.slice(0, 50).map((line) => h("li", { data: { rating: line.rating } },
      h("span", { class: "fate", data: { fate: line.rating === "right" ? "kept" : "dropped" } }, t(`measure.${line.rating}`)),
      h("span", { dir: "auto" }, visible(line.question)),
      line.answers ? h("small", { dir: "auto" }, line.answers.length ? `${t("measure.correction")}: ${visible(line.answers.join("; "))}` : t("rate.unanswerable")) : ""))));
}
