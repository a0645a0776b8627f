/** Why a story has its probability: its live figure, and what each group of features adds. */

import { drawBars, signed } from "./bars.js";
import { make } from "./dom.js";
import { count } from "./format.js";
import { drawInfluence } from "./influence.js";
import { t } from "./language.js";

const GROUPS = {
  live: t("Live"),
  likeness: t("Likeness"),
  category: t("Category"),
  reader: t("Reader"),
  text: t("Text"),
};
const MEANING = t(
  "Live: what all readers click right now. Likeness: to the history’s titles. Category: how often" +
    " the reader clicks it. Reader: what is known of the reader, and the hour. Text: the language" +
    " model’s judgement.",
);

/** The largest contribution in an answer, whose bar is the longest. */
export const largest = (answer) =>
  Math.max(
    ...answer.results
      .filter(({ explanation }) => explanation)
      .flatMap(({ explanation }) => Object.keys(GROUPS).map((name) => Math.abs(explanation[name]))),
  );

/** live: of an answer with `explain`; null for a story that was never shown. */
export function inWords(live) {
  if (live === null) return t("Not shown yet");
  return t("Shown {shown}, clicked {clicked}", {
    shown: times(live.impressions),
    clicked: times(live.clicks),
  });
}

/** Clicks need not be whole, as older ones may weigh less. */
function times(number) {
  const rounded = Math.round(number * 10) / 10;
  if (rounded === 0) return t("never");
  if (rounded === 1) return t("once");
  return t("{count} times", { count: rounded < 100 ? rounded : count(number) });
}

/** Draws what can be unfolded about one story. answers: as in ranking.js. */
export function drawWhy(title, index, answers) {
  const place = make("div", {});
  const draw = () =>
    place.replaceChildren(
      ...answers.map((answer, number) =>
        make(
          "div",
          { class: `model-${number}` },
          answers.length > 1 ? make("h3", {}, answer.title) : null,
          ...drawExplanation(answer, index),
          drawInfluence(answer, index),
        ),
      ),
    );
  return make(
    "details",
    { class: "why", ontoggle: () => place.children.length || draw() },
    make(
      "summary",
      {},
      t("Why"),
      make("span", { class: "for-readers" }, t(" this place: {title}", { title })),
    ),
    place,
  );
}

function drawExplanation(answer, index) {
  const { explanation } = answer.byIndex.get(index);
  if (!explanation) {
    const why = answer.ranker
      ? t("The service explains only the first stories of an answer.")
      : t("The language model alone has judged this story.");
    return [make("p", { class: "hint" }, why)];
  }
  return [
    drawBars(
      Object.entries(GROUPS).map(([name, label]) => [label, explanation[name]]),
      largest(answer),
    ),
    make(
      "p",
      { class: "hint" },
      t("Log-odds, from a baseline of {baseline}. ", { baseline: signed(explanation.baseline) }),
      MEANING,
    ),
  ];
}
