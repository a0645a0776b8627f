/** A link that holds what the page is set to, compressed, in the part that no server sees. */

import { t } from "./language.js";
import { isState } from "./state.js";

const NAME = "#set=";
const MOST_CHARS = 200_000;
const MOST_BYTES = 4_000_000;

export async function toLink(state) {
  const packed = await through(new CompressionStream("deflate-raw"), JSON.stringify(state));
  const text = btoa(Array.from(packed, (byte) => String.fromCharCode(byte)).join(""));
  const link = new URL(location.href);
  link.searchParams.delete("lang"); // whoever opens it has a language of their own
  link.hash = NAME + text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return link.href;
}

/** Returns the state of a fragment such as location.hash; null for one that holds none. Throws
 * Error, whose message is for users, for one that is damaged. */
export async function fromFragment(fragment) {
  if (!fragment.startsWith(NAME)) return null;
  try {
    if (fragment.length > MOST_CHARS) throw new Error("too long");
    const text = atob(fragment.slice(NAME.length).replaceAll("-", "+").replaceAll("_", "/"));
    const packed = Uint8Array.from(text, (char) => char.charCodeAt(0));
    const bytes = await through(new DecompressionStream("deflate-raw"), packed);
    const state = JSON.parse(new TextDecoder().decode(bytes));
    if (isState(state)) return state;
  } catch {
    // all that is not the page's own is damaged alike
  }
  throw new Error(t("This link is damaged or of another version, so the example is shown."));
}

async function through(stream, content) {
  const parts = [];
  let size = 0;
  for await (const part of streamed(new Blob([content]).stream().pipeThrough(stream))) {
    size += part.length;
    if (size > MOST_BYTES) throw new Error("too large");
    parts.push(part);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Not every browser can iterate over a stream. */
async function* streamed(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
