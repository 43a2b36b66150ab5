// One question to the server; the answer comes in pieces.

import { call, events, ApiError } from "./api.js";

/** Begin a turn: what is kept of a question and its answer. */
export function newTurn(question) {
  return { question, answer: "", state: "streaming", error: null, sources: [], rag: null, asked: Date.now() };
}

/**
 * Ask, and fill the turn in as the answer comes; `changed` is called with each piece.
 *
 * It ends as "done", "stopped" or "failed"; nothing is raised.
 */
export async function answer(turn, before, collection, signal, changed) {
  try {
    const response = await call("v1/chat/completions", {
      method: "POST", signal,
      json: { model: collection, messages: messages(before, turn.question), stream: true, rag: { explain: true } },
    });
    for await (const event of events(response)) take(turn, event, changed);
    if (!turn.rag) throw new ApiError(0, "");
    turn.state = "done";
  } catch (error) {
    turn.state = error.name === "AbortError" ? "stopped" : "failed";
    if (turn.state === "failed") turn.error = { status: error.status ?? 500, message: error.message, code: error.code ?? "", retryAfter: error.retryAfter ?? "" };
  }
  changed();
}

function take(turn, event, changed) {
  const delta = event.choices?.[0]?.delta ?? {};
  if (delta.content) turn.answer += delta.content;
  if (event.rag) {
    const urls = event.citations ?? [];
    turn.sources = (event.rag.passages ?? []).map((passage, at) => ({ ...passage, url: urls[at] }));
    const { passages, ...about } = event.rag;
    turn.rag = about;
    turn.cut = event.choices[0].finish_reason === "length";
  }
  changed();
}

function messages(before, question) {
  const told = before.filter((turn) => turn.answer && turn.state !== "failed").flatMap((turn) => [
    { role: "user", content: turn.question },
    { role: "assistant", content: turn.answer },
  ]);
  return [...told, { role: "user", content: question }];
}
