// Calls of the server. The key is kept for this tab alone, and sent with each call.

const KEY = "rag_app.key";

/** What a call failed with: the server's own words, or `status` 0 where none answered. */
export class ApiError extends Error {
  constructor(status, message, code = "", retryAfter = "") {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** Call the server and return its response; raises an `ApiError` unless it is a good one. */
export async function call(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let body = options.body;
  if (options.json !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(options.json);
  }
  let response;
  try {
    response = await fetch(path, { ...options, body, headers, redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "");
  }
  if (!response.ok) throw await asError(response);
  return response;
}

/** Call the server and return the JSON that it answers. */
export async function json(path, options = {}) {
  return (await call(path, options)).json();
}

async function asError(response) {
  const { error } = await response.json().catch(() => ({}));
  const message = error?.message ?? `${response.status} ${response.statusText}`;
  if (response.status === 401) dispatchEvent(new Event("rag-app:sign-in"));
  return new ApiError(response.status, message, error?.code ?? "", response.headers.get("Retry-After") ?? "");
}

/** Yield the objects of a stream of server-sent events; an error in it is raised. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
        if (data === "[DONE]") return;
        if (!data) continue;
        const event = JSON.parse(data);
        if (event.error) throw new ApiError(500, event.error.message, event.error.code);
        yield event;
      }
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError(0, "");  // the connection broke
  } finally {
    reader.cancel().catch(() => {});
  }
}
