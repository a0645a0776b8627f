/** An answer of /rank as a list with bars; two models' answers together, with how stories moved. */

import { announce, make } from "./dom.js";
import { milliseconds, count, percent } from "./format.js";
import { drawDegraded, drawStage, howManyRead } from "./stage.js";
import { drawWhy, inWords, largest } from "./why.js";

/**
 * stories: those in the request. answers: one answer of /rank, or two to compare. onFeedback:
 * (answer, index, clicked) → a promise. It is used only for a single answer: a comparison is not
 * what a reader would be shown.
 */
export function drawRanking(stories, answers, onFeedback) {
  const place = make("div", {});
  const show = (lead) => {
    const focused = place.contains(document.activeElement);
    place.replaceChildren(
      ...answers
        .filter(({ degraded }) => degraded)
        .map((answer) => drawDegraded(name(answers, answers.indexOf(answer)), answers.length)),
      drawSummary(answers),
      ...(answers.length > 1 ? [drawOrder(answers, lead, show)] : []),
      drawList(stories, answers, lead, onFeedback),
      drawLegend(answers),
    );
    if (focused) place.querySelector(`input[value="${lead}"]`)?.focus();
  };
  show(0);
  return place;
}

export const best = (stories, answer) => stories[answer.results[0].index].title;

/** Draws each answer's model, latency, tokens and id. */
function drawSummary(answers) {
  const fact = (name, value) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
  return make(
    "div",
    { class: "summaries" },
    ...answers.map((answer, number) =>
      make(
        "div",
        { class: `summary model-${number}` },
        make("h3", {}, answer.model),
        make(
          "dl",
          {},
          fact("Latency", milliseconds(answer.latency_ms)),
          fact("Prompt tokens", count(answer.usage.prompt_tokens)),
          fact("Cached tokens", count(answer.usage.cached_tokens)),
          fact("Request id", make("code", { title: answer.id }, answer.id)),
          fact("Stories read", howManyRead(answer)),
        ),
      ),
    ),
  );
}

/** Draws the choice of the answer by which the list is ordered. */
function drawOrder(answers, lead, show) {
  return make(
    "fieldset",
    { class: "order" },
    make("legend", {}, "Order by"),
    ...answers.map((answer, number) =>
      make(
        "label",
        {},
        make("input", {
          type: "radio",
          name: "order",
          value: number,
          checked: number === lead,
          onchange: () => {
            show(number);
            announce(`Ordered by ${name(answers, number)}.`);
          },
        }),
        name(answers, number),
      ),
    ),
  );
}

/** Two answers may come from the same model under two names; a number then tells them apart. */
const name = (answers, number) =>
  answers[0].model === answers.at(-1).model && answers.length > 1
    ? `${answers[number].model} (${number + 1})`
    : answers[number].model;

function drawList(stories, answers, lead, onFeedback) {
  const byIndex = answers.map((answer) => new Map(answer.results.map((one) => [one.index, one])));
  const most = Math.max(...answers.flatMap(({ results }) => results.map((r) => r.probability)));
  return make(
    "ol",
    { class: "ranked" },
    ...answers[lead].results.map(({ index, rank }) => {
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
              drawMeasure(
                answers,
                number,
                byIndex[number].get(index),
                byIndex[lead].get(index),
                most,
              ),
            ),
          ),
          drawReasons(answers, byIndex, lead, index, story),
        ),
        answers.length === 1 ? drawFeedback(answers[0], index, story, onFeedback) : null,
      );
    }),
  );
}

/** Draws a story's live figure, which is the same for all answers, and what can be unfolded. */
function drawReasons(answers, byIndex, lead, index, story) {
  const found = answers.map((answer, number) => ({
    name: answers.length > 1 ? name(answers, number) : null,
    number,
    explanation: byIndex[number].get(index).explanation,
    most: largest(answer),
  }));
  const { live } = byIndex[lead].get(index);
  return make(
    "div",
    { class: "reasons" },
    make("p", { class: "hint" }, inWords(live)),
    drawWhy(story.title, found),
  );
}

function drawMeasure(answers, number, own, leading, most) {
  const isAlone = answers.length === 1;
  const fill = make("span", { class: "fill" });
  fill.style.width = `${(own.probability / most) * 100}%`;
  return make(
    "div",
    { class: `measure model-${number}` },
    isAlone ? null : make("span", { class: "for-readers" }, `${name(answers, number)}: `),
    make("span", { class: "bar", "aria-hidden": "true" }, fill),
    make(
      "span",
      { class: "figures" },
      make("strong", {}, percent(own.probability)),
      " ",
      isAlone
        ? make("span", { class: "hint" }, timesMean(own, answers[number]))
        : drawMove(own, leading),
      " ",
      make(
        "span",
        { class: `label ${own.label === "Yes." ? "yes" : ""}` },
        make("span", { class: "for-readers" }, "label "),
        own.label.replace(".", ""),
      ),
      " ",
      answers[number].ranker ? drawStage(own) : null,
    ),
  );
}

function timesMean(own, { results }) {
  const mean = results.reduce((sum, { probability }) => sum + probability, 0) / results.length;
  return `${(own.probability / mean).toFixed(2)} × mean`;
}

/** Draws how much higher or lower a story is than in the order shown. */
function drawMove(own, leading) {
  const up = leading.rank - own.rank;
  if (own === leading) return make("span", { class: "move" }, `#${own.rank}`);
  const sign = up > 0 ? `▲${up}` : up < 0 ? `▼${-up}` : "=";
  const words = up > 0 ? `, ${up} higher` : up < 0 ? `, ${-up} lower` : ", same place";
  return make(
    "span",
    { class: `move ${up > 0 ? "up" : up < 0 ? "down" : ""}` },
    `#${own.rank} `,
    make("span", { "aria-hidden": "true" }, sign),
    make("span", { class: "for-readers" }, words),
  );
}

function drawFeedback(answer, index, story, onFeedback) {
  const button = make(
    "button",
    {
      type: "button",
      class: "quiet feedback",
      "aria-pressed": "false",
      "aria-label": `Clicked: ${story.title}`,
      onclick: async () => {
        const clicked = button.getAttribute("aria-pressed") !== "true";
        if (!(await onFeedback(answer, index, clicked))) return;
        button.setAttribute("aria-pressed", String(clicked));
        button.textContent = clicked ? "✓ Clicked" : "Clicked?";
        announce(`${clicked ? "Counted as clicked" : "Click taken back"}: ${story.title}`);
      },
    },
    "Clicked?",
  );
  return button;
}

function drawLegend(answers) {
  return make(
    "p",
    { class: "hint legend" },
    "Bars are relative to the highest probability shown. The label is Yes from the model’s own" +
      " threshold on. ",
    answers.some(({ ranker }) => ranker)
      ? "“Language model” is what it says alone. “Why” shows what else counts: live figures," +
          " likeness to the history, the category, the reader, and the language model’s text. "
      : null,
    answers.some(({ results }) => results.some(({ stage }) => stage === "signals"))
      ? "The language model has not read stories marked “signals only”: everything else has placed" +
          " them, below those that it has read. "
      : null,
    answers.length === 1
      ? "“Mean” is the mean of these stories. “Clicked?” reports a click, shown under Experiments." +
          " Live figures know it after a second: rank again to see what it changes."
      : "Arrows show how far a story moves from the order shown. The models answered in turn.",
  );
}
