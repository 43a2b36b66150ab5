// Conversations, kept in this browser alone (IndexedDB). Each belongs to the key that asked.

const request = (asked) => new Promise((resolve, reject) => {
  asked.onsuccess = () => resolve(asked.result);
  asked.onerror = () => reject(asked.error);
});

let database;

async function store(mode) {
  if (!database) {
    const opening = indexedDB.open("rag_app", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("conversations", { keyPath: "id" });
    database = request(opening);
  }
  return (await database).transaction("conversations", mode).objectStore("conversations");
}

/** Begin a conversation; it is kept with its first answer. */
export function begin(owner, collection) {
  const now = Date.now();
  const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { id, owner, collection, title: "", made: now, changed: now, turns: [] };
}

/** Keep a conversation as it is now. */
export async function keep(conversation) {
  conversation.changed = Date.now();
  await request((await store("readwrite")).put(conversation));
  dispatchEvent(new Event("rag-app:conversations"));
}

/** Return one, or undefined; another key's is not there. */
export async function find(id, owner) {
  const found = await request((await store("readonly")).get(id));
  return found?.owner === owner ? found : undefined;
}

/** Return those in which all words of `wanted` occur, the last one first. */
export async function search(owner, wanted = "") {
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const found = await request((await store("readonly")).getAll());
  const holds = (each) => {
    const text = each.turns.map((turn) => `${turn.question} ${turn.answer}`).join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  };
  return found.filter((each) => each.owner === owner && holds(each)).sort((one, other) => other.changed - one.changed);
}

/** Delete one. */
export async function remove(id) {
  await request((await store("readwrite")).delete(id));
  dispatchEvent(new Event("rag-app:conversations"));
}
