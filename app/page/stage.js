/** Whether the language model judged a story, and an answer that it gave no judgement for. */

import { make } from "./dom.js";
import { count, percent } from "./format.js";
import { t } from "./language.js";

/** Draws the language model's own probability, or that it was not asked. */
export function drawStage({ stage, text_probability: alone }) {
  return stage === "text"
    ? make("span", { class: "hint alone" }, t("language model {share}", { share: percent(alone) }))
    : make("span", { class: "label stage" }, t("signals only"));
}

/** How many stories the language model has read: "20 of 50". */
export function howManyRead({ results }) {
  const read = results.filter(({ stage }) => stage === "text").length;
  return t("{some} of {all}", { some: count(read), all: count(results.length) });
}

export const DEGRADED = t("The language model did not answer.");

/** Draws the notice above a degraded answer, with its title if it is one of several answers. */
export function drawDegraded(title, answers) {
  return make(
    "div",
    { class: "notice degraded" },
    make(
      "p",
      { class: "what" },
      answers > 1 ? t("{name}: {text}", { name: title, text: DEGRADED }) : DEGRADED,
    ),
    make(
      "p",
      {},
      t(
        "It is busy or away. Live clicks, likeness to the history and what is known of the reader" +
          " made this order. Rank again later to ask it once more.",
      ),
    ),
  );
}
