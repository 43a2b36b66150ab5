// Characters that nobody sees, and that change how others look, are shown as the terminal shows them.

const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/** Return a text in which control characters and overrides of direction can be seen. */
export function visible(text) {
  return String(text ?? "").replace(UNSAFE, (mark) => {
    const code = mark.codePointAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });
}
