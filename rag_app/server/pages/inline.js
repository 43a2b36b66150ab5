// The marks within a line of Markdown → nodes. Whatever is no mark, HTML included, is text.

import { h } from "./dom.js";
import { visible } from "./visible.js";

const DEEPEST = 6;
const CITATION = /^\[(\d+(?:\s*[,;]\s*\d+)*)\]/;
const LINK = /^\[([^\][]*(?:\[[^\][]*\][^\][]*)*)\]\(\s*<?([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?:\s+["'(][^"')]*["')])?\s*\)/;
const ADDRESS = /^https?:\/\/[^\s<>"'`“”]*[^\s<>"'`“”.,;:!?)\]*_]/;
const MARKS = [["***", ["strong", "em"]], ["**", ["strong"]], ["__", ["strong"]], ["~~", ["s"]], ["*", ["em"]], ["_", ["em"]]];
const ESCAPED = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}]/u;

/**
 * Return the nodes of a line.
 *
 * `cite`, where there is one, is given the numbers of a citation such as `[1, 2]` and returns its node.
 */
export function inline(text, cite = null, depth = 0) {
  const nodes = [];
  let plain = "";
  const put = (...found) => {
    if (plain) nodes.push(visible(plain));
    plain = "";
    nodes.push(...found);
  };
  for (let at = 0; at < text.length;) {
    const found = depth < DEEPEST ? markAt(text, at, cite, depth) : null;
    if (found) {
      put(...found.nodes);
      at = found.end;
    } else if (text[at] === "\\" && ESCAPED.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
    } else {
      plain += text[at];
      at += 1;
    }
  }
  put();
  return nodes;
}

function markAt(text, at, cite, depth) {
  switch (text[at]) {
    case "`": return code(text, at);
    case "“": return quotation(text, at, cite, depth);
    case "!": return text[at + 1] === "[" ? picture(text, at) : null;
    case "[": return bracket(text, at, cite, depth);
    case "h": return address(text, at);
    case "\n": return { nodes: [h("br")], end: at + 1 };
    case "*": case "_": case "~": return emphasis(text, at, cite, depth);
    default: return null;
  }
}

function code(text, at) {
  const fence = /^`+/.exec(text.slice(at))[0];
  let end = text.indexOf(fence, at + fence.length);
  while (end >= 0 && text[end + fence.length] === "`") end = text.indexOf(fence, end + fence.length + 1);
  if (end < 0) return null;
  return { nodes: [h("code", {}, visible(text.slice(at + fence.length, end).trim()))], end: end + fence.length };
}

// A document's own words before their citation: brackets in them are the document's.
function quotation(text, at, cite, depth) {
  const end = text.indexOf("”", at);
  if (!cite || end < 0 || !/^\s*\[\d/.test(text.slice(end + 1))) return null;
  return { nodes: [h("q", {}, inline(text.slice(at + 1, end), null, depth + 1))], end: end + 1 };
}

// Nothing is loaded from elsewhere: of a picture its description is left.
function picture(text, at) {
  const found = LINK.exec(text.slice(at + 1));
  return found && { nodes: [visible(found[1])], end: at + 1 + found[0].length };
}

function bracket(text, at, cite, depth) {
  const rest = text.slice(at);
  const cited = cite && CITATION.exec(rest);
  if (cited) return { nodes: [cite(cited[1].split(/[,;]/).map(Number))], end: at + cited[0].length };
  const found = LINK.exec(rest);
  if (!found) return null;
  const shown = inline(found[1], null, depth + 1);
  return { nodes: [link(found[2], shown)], end: at + found[0].length };
}

function address(text, at) {
  if (at > 0 && WORD.test(text[at - 1])) return null;
  const found = ADDRESS.exec(text.slice(at));
  return found && { nodes: [link(found[0], [visible(found[0])])], end: at + found[0].length };
}

function link(to, shown) {
  // A link of a document leads into the web or nowhere: never into this page, nor to a script.
  if (!/^(https?|mailto):/i.test(to)) return h("span", {}, shown);
  return h("a", { href: to, target: "_blank", rel: "noopener noreferrer nofollow", title: to }, shown);
}

function emphasis(text, at, cite, depth) {
  for (const [mark, names] of MARKS) {
    if (!text.startsWith(mark, at)) continue;
    const begin = at + mark.length;
    if (!text[begin] || /\s/.test(text[begin])) continue;
    if (mark[0] === "_" && at > 0 && WORD.test(text[at - 1])) continue;
    const end = closing(text, mark, begin);
    if (end < 0) continue;
    let nodes = inline(text.slice(begin, end), cite, depth + 1);
    for (const name of names) nodes = [h(name, {}, nodes)];
    return { nodes, end: end + mark.length };
  }
  return null;
}

function closing(text, mark, begin) {
  for (let end = text.indexOf(mark, begin + 1); end >= 0; end = text.indexOf(mark, end + 1)) {
    const after = text[end + mark.length] ?? "";
    if (/\s/.test(text[end - 1])) continue;
    if (mark.length === 1 && after === mark) { end += 1; continue; }
    if (mark[0] === "_" && WORD.test(after)) continue;
    return end;
  }
  return -1;
}
