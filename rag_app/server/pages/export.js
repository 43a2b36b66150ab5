// Answers and conversations as Markdown, with their sources.

import { t } from "./words.js";

/** Return an answer with the sources that it cites. */
export function answerAsMarkdown(turn) {
  const sources = cited(turn).map((source) => {
    const page = source.page ? `, ${t("page", { page: source.page })}` : "";
    return `- [${source.number}] ${escaped(source.title || source.path)} (\`${source.path.replaceAll("`", "'")}\`${page})`;
  });
  return [turn.answer.trim(), ...(sources.length ? [`**${t("sources")}**`, sources.join("\n")] : [])].join("\n\n");
}

/** Return a whole conversation. */
export function conversationAsMarkdown(conversation) {
  const turns = conversation.turns.map((turn) => `## ${escaped(turn.question)}\n\n${answerAsMarkdown(turn)}`);
  return `# ${escaped(conversation.title)}\n\n${turns.join("\n\n")}\n`;
}

/** Return the sources whose numbers stand in the answer. */
export function cited(turn) {
  const numbers = new Set(Array.from(turn.answer.matchAll(/\[(\d+(?:\s*[,;]\s*\d+)*)\]/g), (found) => found[1].split(/[,;]/).map(Number)).flat());
  return turn.sources.filter((source) => numbers.has(source.number));
}

function escaped(text) {
  return text.replace(/\s+/g, " ").replace(/([\\`*_[\]<>#])/g, "\\$1");
}
