/** What an answer cost, and its id, folded away below the ranking. */

import { make } from "./dom.js";
import { count, milliseconds } from "./format.js";
import { howManyRead } from "./stage.js";

/** answers: as in ranking.js. */
export function drawTechnical(answers) {
  return make(
    "details",
    { class: "technical" },
    make("summary", {}, "Technical figures"),
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
      fact("Latency", milliseconds(answer.latency_ms)),
      fact("Prompt tokens", count(answer.usage.prompt_tokens)),
      fact("Cached tokens", count(answer.usage.cached_tokens)),
      fact("Request id", make("code", { title: answer.id }, answer.id)),
      fact("Stories read", howManyRead(answer)),
      fact("Label Yes", howManyYes(answer)),
    ),
  );
}

/** How many stories reach the threshold of the model's profile. */
const howManyYes = ({ results }) =>
  `${count(results.filter(({ label }) => label === "Yes.").length)} of ${count(results.length)}`;
