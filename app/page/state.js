/** What the page is set to: the reader, the stories, the models. A reader id is left out. */

import { READERS } from "./examples.js";
import { byId } from "./dom.js";
import { choose, chosenModel, chosenOther } from "./choices.js";
import { t } from "./language.js";
import { LIST_NAMES, readLines, setReader } from "./reader.js";

const MOST = 1000; // stories in a list, as the service allows

export const readState = () => ({
  reader: readLines(),
  stories: byId("candidates").value,
  model: chosenModel(),
  other: chosenOther(),
});

/** state: for which isState holds. */
export function applyState({ reader, stories, model, other }) {
  byId("candidates").value = stories;
  choose(model, other);
  setReader(reader);
}

/** Whether a value from outside, as of a link, has the shape that readState gives. */
export function isState(value) {
  const isText = (one) => typeof one === "string";
  const isList = (one) => Array.isArray(one) && one.length <= MOST && one.every(isText);
  return (
    LIST_NAMES.every((name) => isList(value?.reader?.[name])) &&
    [value.stories, value.model, value.other].every(isText)
  );
}

/** The example that the reader's lists hold, or undefined. */
export function currentExample() {
  const lines = JSON.stringify(readLines());
  return READERS.find(
    (reader) => lines === JSON.stringify(Object.fromEntries(LIST_NAMES.map((n) => [n, reader[n]]))),
  );
}

export const readerName = () => currentExample()?.name ?? t("This reader");
