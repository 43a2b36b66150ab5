// Markdown → elements. Only what is written here can come out: no HTML, no scripts, no pictures.

import { h } from "./dom.js";
import { inline } from "./inline.js";
import { visible } from "./visible.js";

const DEEPEST = 8;
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+•]|\d{1,9}[.)])(\s+)(.*)$/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/**
 * Return the elements of a text.
 *
 * `how`: `cite`, as `inline` takes it; `breaks`, whether each line of a paragraph stands for itself.
 */
export function markdown(text, how = {}) {
  return blocks(text).map((block) => element(block, how, 0));
}

/**
 * Show a text that grows: of its blocks only those that changed are made again.
 *
 * `shown` is what the last call returned.
 */
export function grow(container, text, how, shown = []) {
  const found = blocks(text);
  const sources = found.map((block) => block.lines.join("\n"));
  let same = 0;
  while (same < sources.length && same < shown.length && sources[same] === shown[same]) same += 1;
  while (container.children.length > same) container.lastElementChild.remove();
  container.append(...found.slice(same).map((block) => element(block, how, 0)));
  return sources;
}

// --- lines → blocks ---

function blocks(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const found = [];
  for (let at = 0; at < lines.length;) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [kind, end] = blockAt(lines, at);
    found.push({ kind, lines: lines.slice(at, end) });
    at = end;
  }
  return found;
}

function blockAt(lines, at) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return ["code", endOfFence(lines, at, fence[1])];
  if (HEADING.test(line)) return ["heading", at + 1];
  if (RULE.test(line)) return ["rule", at + 1];
  if (isTable(lines, at)) return ["table", next(lines, at + 2, (each) => !each.includes("|"))];
  if (/^ {0,3}>/.test(line)) return ["quote", next(lines, at + 1, (each) => !/^ {0,3}>/.test(each))];
  if (ITEM.test(line)) return ["list", endOfList(lines, at)];
  return ["paragraph", next(lines, at + 1, (each, place) => begins(lines, place))];
}

function next(lines, at, ends) {
  while (at < lines.length && lines[at].trim() && !ends(lines[at], at)) at += 1;
  return at;
}

function begins(lines, at) {
  const line = lines[at];
  // Quotations stand one a line, each with its own citation.
  return /^“/.test(line) || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || /^ {0,3}>/.test(line) || ITEM.test(line) || isTable(lines, at);
}

function endOfFence(lines, at, fence) {
  const close = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}\\s*$`);
  for (let end = at + 1; end < lines.length; end += 1) if (close.test(lines[end])) return end + 1;
  return lines.length;
}

function isTable(lines, at) {
  return lines[at].includes("|") && DIVIDER.test(lines[at + 1] ?? "") && lines[at + 1].includes("-");
}

function endOfList(lines, at) {
  const indent = ITEM.exec(lines[at])[1].length;
  let end = at + 1;
  while (end < lines.length) {
    const line = lines[end];
    const item = ITEM.exec(line);
    // An empty line ends a list unless more of it follows.
    if (!line.trim()) {
      const after = lines[end + 1] ?? "";
      if (!/^\s{2,}\S/.test(after) && !(ITEM.exec(after)?.[1].length >= indent)) break;
    } else if (item ? item[1].length < indent : !/^\s/.test(line) && begins(lines, end)) break;
    end += 1;
  }
  return end;
}

// --- blocks → elements ---

function element({ kind, lines }, how, depth) {
  if (depth > DEEPEST) return h("p", {}, visible(lines.join("\n")));
  switch (kind) {
    case "code": return code(lines);
    case "heading": return heading(lines[0], how);
    case "rule": return h("hr");
    case "table": return table(lines, how);
    case "quote": return h("blockquote", {}, inner(lines.map((line) => line.replace(/^ {0,3}> ?/, "")), how, depth));
    case "list": return list(lines, how, depth);
    default: return paragraph(lines, how);
  }
}

function inner(lines, how, depth) {
  return blocks(lines.join("\n")).map((block) => element(block, how, depth + 1));
}

function paragraph(lines, how) {
  return h("p", { dir: "auto" }, inline(lines.map((line) => line.trim()).join(how.breaks ? "\n" : " "), how.cite));
}

function heading(line, how) {
  const [, marks, text] = HEADING.exec(line);
  // The page's own headings stand above those of an answer or a document.
  return h(`h${Math.min(6, marks.length + 2)}`, { dir: "auto" }, inline(text, how.cite));
}

function code(lines) {
  const [, fence, language] = FENCE.exec(lines[0]);
  const last = lines.at(-1).trim();
  const closed = lines.length > 1 && last.startsWith(fence) && !last.replaceAll(fence[0], "");
  const text = lines.slice(1, closed ? -1 : undefined).join("\n");
  return h("pre", { tabindex: "0", data: { language } }, h("code", {}, visible(text)));
}

function list(lines, how, depth) {
  const [, indent, first] = ITEM.exec(lines[0]);
  const items = [];
  for (const line of lines) {
    const found = ITEM.exec(line);
    if (found && found[1].length <= indent.length) items.push([found[4]]);
    else items.at(-1).push(line.replace(/^\s{1,4}/, ""));
  }
  const ordered = /\d/.test(first);
  return h(ordered ? "ol" : "ul", { start: ordered ? parseInt(first, 10) : null }, items.map((item) => h("li", { dir: "auto" }, tight(item, how, depth))));
}

// An item of one paragraph is a line, and no paragraph.
function tight(lines, how, depth) {
  const found = blocks(lines.join("\n"));
  return found.flatMap((block, place) =>
    block.kind === "paragraph" && place === 0
      ? inline(block.lines.map((line) => line.trim()).join(" "), how.cite)
      : [element(block, how, depth + 1)]);
}

function table(lines, how) {
  const [head, divider, ...rows] = lines.map(cells);
  const align = divider.map((cell) => (/^:.*:$/.test(cell) ? "center" : cell.endsWith(":") ? "right" : null));
  const row = (found, name) => h("tr", {}, head.map((_, at) => h(name, { data: align[at] ? { align: align[at] } : {} }, inline(found[at] ?? "", how.cite))));
  return h("div", { class: "table", tabindex: "0", role: "region", "aria-label": head.join(", ") },
    h("table", {}, h("thead", {}, row(head, "th")), h("tbody", {}, rows.map((found) => row(found, "td")))));
}

function cells(line) {
  const inside = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return inside.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}
