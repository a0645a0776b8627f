/** The choices of the model that answers, and of what its ranking is compared with. */

import { byId, make } from "./dom.js";

const DEFAULT = ""; // names no model
const NOTHING = "";
const TEXT_ALONE = ":text"; // after a model's name: its language model, without the ranker

/** models: the list in GET /v1/models, or [] where there is none. Keeps what is chosen. */
export function drawChoices(models) {
  fill(byId("model"), [option(DEFAULT, "The default"), ...models.flatMap(optionsOf)]);
  fill(byId("other"), [option(NOTHING, "Nothing"), ...models.flatMap(optionsOf)]);
}

const option = (value, text) => make("option", { value }, text);

function optionsOf({ id, ranker }) {
  if (!ranker) return [option(id, id)];
  const alone = `${id}${TEXT_ALONE}`;
  return [option(id, id), option(alone, `${alone} (language model alone)`)];
}

function fill(select, options) {
  const chosen = select.value;
  select.replaceChildren(...options);
  select.value = options.some(({ value }) => value === chosen) ? chosen : options[0].value;
}

/** request: without a model. Returns the request of the chosen model. */
export function chosen(request) {
  return named(byId("model").value, request);
}

/** Returns one request or, for a comparison, two. */
export function requests(request) {
  const other = byId("other").value;
  return [chosen(request), ...(other === NOTHING ? [] : [named(other, request)])];
}

const named = (model, request) => (model === DEFAULT ? request : { model, ...request });

/** Adds to each answer the title that it is shown by: two may be of one model. */
export function withTitles(answers) {
  const isSame = answers.length > 1 && answers[0].model === answers[1].model;
  return answers.map((answer, number) => ({
    ...answer,
    title: isSame ? `${answer.model} (${number + 1})` : answer.model,
  }));
}
