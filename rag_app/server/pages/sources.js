// What a source is called.

import { visible } from "./visible.js";

/** Return a document's title, or its path where it has none. */
export function name(source) {
  return visible(source.title || source.file_name || source.path);
}
