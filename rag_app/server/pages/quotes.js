// Words are marked where they stand, whatever marks of Markdown stand between them.

const LETTER = /[\p{L}\p{N}]/u;
const kept = new Map();

/**
 * Mark texts within elements under a highlight's name; `of` is whose they are: marks of the same
 * name and owner that were made before go. Returns an element of the first.
 */
export function mark(name, of, elements, texts) {
  if (!globalThis.CSS?.highlights) return undefined;
  const ranges = elements.flatMap((element) => texts.map((text) => find(element, text))).filter(Boolean);
  if (!kept.has(name)) kept.set(name, new Map());
  kept.get(name).set(of, ranges);
  for (const [each, before] of kept.get(name)) {
    if (!before.length || !before[0].startContainer.isConnected) kept.get(name).delete(each);
  }
  CSS.highlights.set(name, new Highlight(...[...kept.get(name).values()].flat()));
  return ranges[0]?.startContainer.parentElement;
}

// By letters and digits alone: marks and blanks differ between a text and what is shown of it.
function find(element, text) {
  const wanted = Array.from(text.toLowerCase()).filter((character) => LETTER.test(character)).join("");
  if (!wanted) return undefined;
  let letters = "";
  const places = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    for (let at = 0; at < node.data.length; at += 1) {
      if (!LETTER.test(node.data[at])) continue;
      letters += node.data[at].toLowerCase()[0];
      places.push([node, at]);
    }
  }
  const begin = letters.indexOf(wanted);
  if (begin < 0) return undefined;
  const range = new Range();
  range.setStart(...places[begin]);
  const [node, at] = places[begin + wanted.length - 1];
  range.setEnd(node, at + 1);
  return range;
}
