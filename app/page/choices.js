/** The choices of the model that answers, and of what its ranking is compared with. */

import { byId, make } from "./dom.js";
import { READERS } from "./examples.js";
import { t } from "./language.js";
import { toReader } from "./reader.js";

const NONE = ""; // the default model, or no comparison
const TEXT_ALONE = ":text"; // after a model's name: its language model, without the ranker
const READER = "reader:";

const wanted = { model: NONE, other: NONE };

/** models: the list in GET /v1/models, or [] where there is none. */
export function drawChoices(models) {
  byId("model").replaceChildren(option(NONE, t("The default")), ...models.flatMap(optionsOf));
  byId("other").replaceChildren(
    option(NONE, t("Nothing")),
    ...(models.length ? [group(t("Another model"), models.flatMap(optionsOf))] : []),
    group(
      t("Another reader"),
      READERS.map(({ name }, number) => option(READER + number, name)),
    ),
  );
  choose(wanted.model, wanted.other);
}

const option = (value, text) => make("option", { value }, text);
const group = (label, options) => make("optgroup", { label }, ...options);

function optionsOf({ id, ranker }) {
  if (!ranker) return [option(id, id)];
  const alone = `${id}${TEXT_ALONE}`;
  return [option(id, id), option(alone, t("{name} (language model alone)", { name: alone }))];
}

export const chosenModel = () => byId("model").value;
export const chosenOther = () => byId("other").value;

/** Chooses what there is of it, now and whenever the choices are drawn again. */
export function choose(model, other) {
  Object.assign(wanted, { model, other });
  for (const [id, value] of Object.entries(wanted)) {
    const options = [...byId(id).options];
    byId(id).value = options.some((one) => one.value === value) ? value : NONE;
  }
}

/** Keeps what the user has chosen. */
export function noteChoice() {
  Object.assign(wanted, { model: chosenModel(), other: chosenOther() });
}

/** request: without a model. Returns the request of the chosen model. */
export function chosen(request) {
  return named(chosenModel(), request);
}

const named = (model, request) => (model === NONE ? request : { model, ...request });

/**
 * Returns [{title, body}]: one request or, for a comparison, two. title: null where the answer's
 * model is to be the title. reader: what the reader in the request is called.
 */
export function asks(request, reader) {
  const other = chosenOther();
  if (other === NONE) return [{ title: null, body: chosen(request) }];
  if (!other.startsWith(READER)) {
    return [chosen(request), named(other, request)].map((body) => ({ title: null, body }));
  }
  const { name, ...lists } = READERS[Number(other.slice(READER.length))];
  const { explain, candidates } = request;
  return [
    { title: reader, body: chosen(request) },
    { title: name, body: chosen({ explain, ...toReader(lists), candidates }) },
  ];
}

/** Gives each answer the title that it is shown by: two may have the same. */
export function withTitles(answers) {
  const titles = answers.map(({ title, model }) => title ?? model);
  const isSame = titles.length > 1 && titles[0] === titles[1];
  return answers.map((answer, number) => ({
    ...answer,
    title: isSame ? `${titles[number]} (${number + 1})` : titles[number],
  }));
}
