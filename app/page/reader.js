/** The reader's three lists, whose stories can be added, removed and reordered. */

import { announce, make } from "./dom.js";
import { t } from "./language.js";
import { formatStory, parseStory, toWire } from "./story.js";

const LISTS = [
  { name: "history", title: t("History"), hint: t("clicked so far, oldest first") },
  { name: "liked", title: t("Liked"), hint: t("clicked when shown") },
  { name: "disliked", title: t("Disliked"), hint: t("shown but not clicked") },
];

export const LIST_NAMES = LISTS.map(({ name }) => name);

const lists = {};

/** Draws the lists into `place`. `onChange` runs after each change. */
export function installReader(place, onChange) {
  place.replaceChildren(...LISTS.map((list) => drawList(list, onChange)));
}

/** reader: {history, liked, disliked}, each a list of lines as parseStory reads them. */
export function setReader(reader) {
  for (const { name } of LISTS) lists[name].set(reader[name].map(parseStory));
}

/** The reader as setReader expects it. */
export const readLines = () =>
  Object.fromEntries(LIST_NAMES.map((name) => [name, lists[name].stories().map(formatStory)]));

/** Lists of lines as the API expects them, without empty ones. */
export function toReader(reader) {
  return Object.fromEntries(
    LIST_NAMES.map((name) => [name, reader[name].map((line) => toWire(parseStory(line)))]).filter(
      ([, stories]) => stories.length > 0,
    ),
  );
}

/** "history.2.title" → "History, story 3"; null for a field outside the lists. */
export function placeInReader(param) {
  const [name, index] = param.split(".");
  const list = LISTS.find((one) => one.name === name);
  if (!list) return null;
  if (index === undefined) return list.title;
  return t("{list}, story {number}", { list: list.title, number: Number(index) + 1 });
}

function drawList({ name, title, hint }, onChange) {
  let stories = [];
  const items = make("ol", { class: "stories", "aria-labelledby": `${name}-title` });
  const input = make("input", {
    id: `${name}-new`,
    "aria-label": t("New story for {list}", { list: title }),
    placeholder: t("Add a title"),
    autocomplete: "off",
    maxlength: 10000,
  });

  function change(next, said) {
    stories = next;
    items.replaceChildren(...stories.map(drawItem));
    if (!stories.length) items.append(make("li", { class: "none" }, t("None")));
    if (said) announce(said);
    onChange();
  }

  function focusOn(index, action) {
    const buttons = [...(items.children[index]?.querySelectorAll("button") ?? [])];
    const wanted = buttons.find((one) => one.dataset.action === action && !one.disabled);
    (wanted ?? buttons.find((one) => !one.disabled) ?? input).focus();
  }

  function move(index, step, action) {
    const next = [...stories];
    next.splice(index + step, 0, ...next.splice(index, 1));
    const place = index + step + 1;
    change(next, t("Moved to place {place} of {all}.", { place, all: next.length }));
    focusOn(index + step, action);
  }

  function remove(index) {
    const [gone] = stories.slice(index, index + 1);
    change(
      stories.filter((_, place) => place !== index),
      t("Removed: {title}", { title: gone.title }),
    );
    focusOn(Math.min(index, stories.length - 1), "remove");
  }

  function drawItem(story, index) {
    const button = (action, sign, label, disabled, onclick) =>
      make(
        "button",
        {
          type: "button",
          class: "icon",
          "data-action": action,
          "aria-label": t("{name}: {text}", { name: label, text: story.title }),
          title: label,
          disabled,
          onclick,
        },
        sign,
      );
    return make(
      "li",
      { "data-param": `${name}.${index}` },
      make(
        "span",
        { class: "text" },
        story.category ? make("span", { class: "category" }, story.category) : null,
        story.title,
      ),
      make(
        "span",
        { class: "buttons" },
        button("up", "↑", t("Move up"), index === 0, () => move(index, -1, "up")),
        button("down", "↓", t("Move down"), index === stories.length - 1, () =>
          move(index, 1, "down"),
        ),
        button("remove", "×", t("Remove"), false, () => remove(index)),
      ),
    );
  }

  function add(event) {
    event.preventDefault();
    const story = parseStory(input.value);
    const said = { list: title, story: formatStory(story) };
    if (story.title) change([...stories, story], t("Added to {list}: {story}", said));
    input.value = "";
    input.focus();
  }

  lists[name] = { stories: () => stories, set: (next) => change(next) };
  return make(
    "section",
    { class: "list", "data-param": name },
    make("h3", { id: `${name}-title` }, title, " ", make("span", { class: "hint" }, hint)),
    items,
    make(
      "form",
      { class: "add", onsubmit: add },
      input,
      make(
        "button",
        { type: "submit", "aria-label": t("Add to {list}", { list: title }) },
        t("Add"),
      ),
    ),
  );
}
