/** Why a story has its probability: its live figure, and what each group of features adds. */

import { make } from "./dom.js";
import { count } from "./format.js";

const GROUPS = {
  live: "Live",
  likeness: "Likeness",
  category: "Category",
  reader: "Reader",
  text: "Text",
};

/** The largest contribution in an answer, whose bar is the longest. */
export const largest = (answer) =>
  Math.max(
    ...answer.results
      .filter(({ explanation }) => explanation)
      .flatMap(({ explanation }) => Object.keys(GROUPS).map((name) => Math.abs(explanation[name]))),
  );

/** live: of an answer with `explain`; null for a story that was never shown. */
export function inWords(live) {
  if (live === null) return "Not shown yet";
  return `Shown ${times(live.impressions)}, clicked ${times(live.clicks)}`;
}

/** Clicks need not be whole, as older ones may weigh less. */
function times(number) {
  const rounded = Math.round(number * 10) / 10;
  if (rounded === 0) return "never";
  if (rounded === 1) return "once";
  return `${rounded < 100 ? rounded : count(number)} times`;
}

/**
 * Draws what can be unfolded about one story. found: {name, number, explanation, most} of each
 * answer; its name only where there are two. Returns null if no answer has an explanation.
 */
export function drawWhy(title, found) {
  const known = found.filter(({ explanation }) => explanation);
  if (!known.length) return null;
  return make(
    "details",
    { class: "why" },
    make("summary", {}, "Why", make("span", { class: "for-readers" }, ` this place: ${title}`)),
    ...known.map(({ name, number, explanation, most }) =>
      make(
        "div",
        { class: `model-${number}` },
        name ? make("p", {}, name) : null,
        drawGroups(explanation, most),
        make("p", { class: "hint" }, `Log-odds, from a baseline of ${signed(explanation.baseline)}`),
      ),
    ),
  );
}

function drawGroups(explanation, most) {
  return make(
    "dl",
    { class: "groups" },
    ...Object.entries(GROUPS).map(([name, label]) =>
      make(
        "div",
        {},
        make("dt", {}, label),
        make(
          "dd",
          {},
          drawBar(explanation[name], most),
          make("span", { class: "number" }, signed(explanation[name])),
        ),
      ),
    ),
  );
}

/** Draws a bar from the middle to the right for what adds, to the left for what takes away. */
function drawBar(value, most) {
  const added = make("span", { class: value < 0 ? "added less" : "added" });
  added.style.width = `${(Math.abs(value) / most) * 50}%`;
  return make("span", { class: "signed", "aria-hidden": "true" }, added);
}

/** 0.417 → "+0.42" */
function signed(value) {
  const text = Math.abs(value).toFixed(2);
  return `${text === "0.00" ? "±" : value < 0 ? "−" : "+"}${text}`;
}
