/**
 * The page's language, English or Chinese: the one that `?lang=` in the address asks for, else that
 * of the last time it did, else the browser's. The page's HTML and code are English; chinese.json
 * says each of their texts in Chinese.
 */

const NAME = "frontpage.language";
const TAGS = { en: "en", zh: "zh-CN" }; // as in <html lang>

export const LANGUAGE = choose();
const texts = LANGUAGE === "zh" ? await load("chinese.json") : {};

/** t("Moved to place {place}.", {place: 2}): the text in the page's language, filled in. */
export function t(text, values = {}) {
  return (texts[text] ?? text).replaceAll(/\{(\w+)\}/g, (_, name) => values[name]);
}

function choose() {
  const isKnown = (one) => Object.hasOwn(TAGS, one ?? "");
  const asked = new URLSearchParams(location.search).get("lang");
  if (isKnown(asked)) localStorage.setItem(NAME, asked);
  const last = localStorage.getItem(NAME);
  return isKnown(last) ? last : navigator.language.startsWith("zh") ? "zh" : "en";
}

/** Shows nothing until the texts are here, rather than English for a moment. */
async function load(file) {
  document.body.hidden = true;
  try {
    return await (await fetch(new URL(file, import.meta.url))).json();
  } finally {
    document.body.hidden = false;
  }
}

/** Translates the HTML, but neither code nor what says `translate="no"`. */
function translatePage() {
  for (const element of document.querySelectorAll("title, body :not(code, [translate=no])")) {
    translateText(element);
    const label = element.getAttribute("aria-label");
    if (label) element.setAttribute("aria-label", t(label));
  }
}

/** A text with elements inside has a placeholder for each: "Press {0} for a new one." */
function translateText(element) {
  const inside = [...element.children];
  const text = [...element.childNodes]
    .map((node) => (inside.includes(node) ? `{${inside.indexOf(node)}}` : node.data))
    .join("")
    .replaceAll(/\s+/g, " ")
    .trim();
  if (!Object.hasOwn(texts, text)) return;
  const parts = texts[text].split(/\{(\d)\}/); // every other one is a number
  element.replaceChildren(...parts.map((part, n) => (n % 2 ? inside[part] : part)));
}

document.documentElement.lang = TAGS[LANGUAGE];
document.querySelector(`#language [hreflang=${LANGUAGE}]`).setAttribute("aria-current", "true");
if (LANGUAGE === "zh") translatePage();
