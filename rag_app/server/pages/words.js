// What the page says, in the browser's language; the texts lie in texts/, a file per language.

const LANGUAGES = ["en", "de", "ko", "zh"];
let texts = {};
export let language = "en";

/** Load the texts of the first language that the browser asks for and there is. */
export async function loadWords(preferred = navigator.languages) {
  const known = preferred.map((tag) => tag.toLowerCase().split("-")[0]);
  language = known.find((each) => LANGUAGES.includes(each)) ?? "en";
  const response = await fetch(`assets/texts/${language}.json`);
  texts = await response.json();
  document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
}

/** Return a text; `{name}` in it is replaced. A number named `count` chooses between two forms. */
export function t(key, values = {}) {
  const { one, other } = typeof texts[key] === "object" ? texts[key] : { one: texts[key], other: texts[key] };
  const text = (values.count === 1 ? one : other) ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => format(values[name]));
}

function format(value) {
  return typeof value === "number" ? value.toLocaleString(language) : String(value ?? "");
}

/** Return a size in words of the language. */
export function bytes(size) {
  const [unit, by] = size < 1e3 ? ["byte", 1] : size < 1e6 ? ["kilobyte", 1e3] : ["megabyte", 1e6];
  const options = { style: "unit", unit, maximumFractionDigits: size / by < 10 ? 1 : 0 };
  return (size / by).toLocaleString(language, options);
}

/** Return a share from 0 to 1 in percent. */
export function percent(share) {
  return share.toLocaleString(language, { style: "percent" });
}

/** Return a day and an hour as the language writes them. */
export function when(milliseconds) {
  return new Date(milliseconds).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });
}
