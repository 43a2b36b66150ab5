// What an answer quotes is marked in the document, whatever marks of Markdown stand between its words.

const LETTER = /[\p{L}\p{N}]/u;

/** Mark quotations within elements, in place of those marked before; returns an element of the first. */
export function markQuotes(elements, quotes) {
  if (!globalThis.CSS?.highlights) return undefined;
  const ranges = elements.flatMap((element) => quotes.map((quote) => find(element, quote))).filter(Boolean);
  CSS.highlights.set("quoted", new Highlight(...ranges));
  return ranges[0]?.startContainer.parentElement;
}

// By letters and digits alone: marks and blanks differ between a text and what is shown of it.
function find(element, quote) {
  const wanted = Array.from(quote.toLowerCase()).filter((character) => LETTER.test(character)).join("");
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
