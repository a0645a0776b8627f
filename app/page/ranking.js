/** An answer of /rank as a list with bars; two answers together, with how stories moved. */

import { announce, make } from "./dom.js";
import { t } from "./language.js";
import { drawMeasure } from "./measure.js";
import { drawDegraded } from "./stage.js";
import { drawTechnical } from "./technical.js";
import { usualOf } from "./usual.js";
import { drawWhy, inWords } from "./why.js";

/**
 * stories: those in the request. answers: one answer of /rank, or two to compare, each with its
 * `request` and the `title` that it is shown by. onFeedback: (answer, index, clicked) → a promise. It is used only
 * for a single answer: a comparison is not what a reader would be shown.
 */
export function drawRanking(stories, answers, onFeedback) {
  const shown = answers.map((answer) => ({
    ...answer,
    usual: usualOf(answer.results),
    most: Math.max(...answer.results.map(({ probability }) => probability)),
    byIndex: new Map(answer.results.map((one) => [one.index, one])),
  }));
  const place = make("div", {});
  const show = (lead) => {
    const focused = place.contains(document.activeElement);
    place.replaceChildren(
      ...shown
        .filter(({ degraded }) => degraded)
        .map(({ title }) => drawDegraded(title, shown.length)),
      ...(shown.length > 1 ? [drawOrder(shown, lead, show)] : []),
      drawList(stories, shown, lead, onFeedback),
      drawLegend(shown),
      drawTechnical(shown),
    );
    if (focused) place.querySelector(`input[value="${lead}"]`)?.focus();
  };
  show(0);
  return place;
}

export const best = (stories, answer) => stories[answer.results[0].index].title;

/** Draws the choice of the answer by which the list is ordered. */
function drawOrder(answers, lead, show) {
  return make(
    "fieldset",
    { class: "order" },
    make("legend", {}, t("Order by")),
    ...answers.map(({ title }, number) =>
      make(
        "label",
        { class: `model-${number}` },
        make("input", {
          type: "radio",
          name: "order",
          value: number,
          checked: number === lead,
          onchange: () => {
            show(number);
            announce(t("Ordered by {title}.", { title }));
          },
        }),
        make("span", { class: "swatch", "aria-hidden": "true" }),
        title,
      ),
    ),
  );
}

function drawList(stories, answers, lead, onFeedback) {
  const isAlone = answers.length === 1;
  return make(
    "ol",
    { class: "ranked" },
    ...answers[lead].results.map((leading) => {
      const { index, rank } = leading;
      const story = stories[index];
      return make(
        "li",
        {},
        make("span", { class: "place", "aria-hidden": "true" }, rank),
        make(
          "div",
          { class: "body" },
          make(
            "p",
            { class: "title" },
            story.category ? make("span", { class: "category" }, story.category) : null,
            story.title,
          ),
          make(
            "div",
            { class: "measures" },
            ...answers.map((answer, number) =>
              drawMeasure(answer, answer.byIndex.get(index), isAlone ? null : leading, number),
            ),
          ),
          drawReasons(answers, leading, story),
        ),
        isAlone ? drawFeedback(answers[0], index, story, onFeedback) : null,
      );
    }),
  );
}

/** Draws a story's live figure, which is the same for all answers, and what can be unfolded. */
function drawReasons(answers, { index, live }, story) {
  return make(
    "div",
    { class: "reasons" },
    make("p", { class: "hint" }, inWords(live)),
    drawWhy(story.title, index, answers),
  );
}

function drawFeedback(answer, index, story, onFeedback) {
  const button = make(
    "button",
    {
      type: "button",
      class: "quiet feedback",
      "aria-pressed": "false",
      "aria-label": t("Clicked: {title}", { title: story.title }),
      onclick: async () => {
        const clicked = button.getAttribute("aria-pressed") !== "true";
        if (!(await onFeedback(answer, index, clicked))) return;
        button.setAttribute("aria-pressed", String(clicked));
        button.textContent = clicked ? t("✓ Clicked") : t("Clicked?");
        const { title } = story;
        announce(
          clicked
            ? t("Counted as clicked: {title}", { title })
            : t("Click taken back: {title}", { title }),
        );
      },
    },
    t("Clicked?"),
  );
  return button;
}

function drawLegend(answers) {
  const isAlone = answers.length === 1;
  return make(
    "p",
    { class: "hint legend" },
    t("“A usual story” is the mean of these stories. "),
    isAlone
      ? t("Bars are relative to the highest probability shown. ")
      : t(
          "Each ranking has its own scale: compare places, not percentages. Arrows show how far a" +
            " story moves from the order shown. The requests were answered in turn. ",
        ),
    answers.some(({ ranker }) => ranker)
      ? t("“Language model” is what it says alone; “Why” shows what else counts. ")
      : null,
    answers.some(({ results }) => results.some(({ stage }) => stage === "signals"))
      ? t(
          "The language model has not read stories marked “signals only”: everything else has" +
            " placed them, below those that it has read. ",
        )
      : null,
    isAlone
      ? t(
          "“Clicked?” reports a click, shown under Experiments. Live figures know it after a" +
            " second: rank again to see what it changes.",
        )
      : null,
  );
}
