// Dark or light: as the system has it, unless the reader chose.

const KEY = "rag_app.theme";
const THEMES = ["auto", "light", "dark"];

const chosen = () => (THEMES.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "auto");
const apply = () => document.documentElement.setAttribute("data-theme", chosen());

/** Choose the next of system, light and dark, and return it. */
export function nextTheme() {
  const next = THEMES[(THEMES.indexOf(chosen()) + 1) % THEMES.length];
  localStorage.setItem(KEY, next);
  apply();
  return next;
}

apply();
