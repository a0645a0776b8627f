/** One story in one answer: its place if answers are compared, its bar and its probability. */

import { make } from "./dom.js";
import { percent } from "./format.js";
import { t } from "./language.js";
import { drawStage } from "./stage.js";
import { timesUsual } from "./usual.js";

/**
 * answer: {title, ranker, usual, most}, its bars being relative to its own `most`. own, leading:
 * the story's results in this answer and in the one that orders the list; leading is null for a
 * single answer. number: the answer's, for its colour.
 */
export function drawMeasure(answer, own, leading, number) {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${answer.most > 0 ? (own.probability / answer.most) * 100 : 0}%`;
  return make(
    "div",
    { class: `measure model-${number}` },
    leading ? make("span", { class: "for-readers" }, `${answer.title}: `) : null,
    make("span", { class: "bar", "aria-hidden": "true" }, fill),
    make(
      "span",
      { class: "figures" },
      leading ? drawMove(own, leading) : null,
      leading ? " " : null,
      make("strong", {}, percent(own.probability)),
      " ",
      make("span", { class: "hint" }, timesUsual(own.probability, answer.usual)),
      " ",
      answer.ranker ? drawStage(own) : null,
    ),
  );
}

/** Draws how much higher or lower a story is than in the order shown. */
function drawMove(own, leading) {
  const up = leading.rank - own.rank;
  if (own === leading) return make("span", { class: "move" }, `#${own.rank}`);
  const sign = up > 0 ? `▲${up}` : up < 0 ? `▼${-up}` : "=";
  const words =
    up > 0
      ? t(", {places} higher", { places: up })
      : up < 0
        ? t(", {places} lower", { places: -up })
        : t(", same place");
  return make(
    "span",
    { class: `move ${up > 0 ? "up" : up < 0 ? "down" : ""}` },
    `#${own.rank} `,
    make("span", { "aria-hidden": "true" }, sign),
    make("span", { class: "for-readers" }, words),
  );
}
