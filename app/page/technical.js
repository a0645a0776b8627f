/** What an answer cost, and its id, folded away below the ranking. */

import { make } from "./dom.js";
import { count, milliseconds } from "./format.js";
import { t } from "./language.js";
import { howManyRead } from "./stage.js";

/** answers: as in ranking.js. */
export function drawTechnical(answers) {
  return make(
    "details",
    { class: "technical" },
    make("summary", {}, t("Technical figures")),
    make("div", { class: "summaries" }, ...answers.map(drawSummary)),
  );
}

function drawSummary(answer, number) {
  const fact = (name, value) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
  return make(
    "div",
    { class: `summary model-${number}` },
    make("h3", {}, answer.title),
    make(
      "dl",
      {},
      fact(t("Latency"), milliseconds(answer.latency_ms)),
      fact(t("Prompt tokens"), count(answer.usage.prompt_tokens)),
      fact(t("Cached tokens"), count(answer.usage.cached_tokens)),
      fact(t("Request id"), make("code", { title: answer.id }, answer.id)),
      fact(t("Stories read"), howManyRead(answer)),
      fact(t("Label Yes"), howManyYes(answer)),
    ),
  );
}

/** How many stories reach the threshold of the model's profile. */
const howManyYes = ({ results }) =>
  t("{some} of {all}", {
    some: count(results.filter(({ label }) => label === "Yes.").length),
    all: count(results.length),
  });
