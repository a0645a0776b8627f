/** How much each clicked story moves the language model's judgement: asked with it left out. */

import { post } from "./api.js";
import { drawBars } from "./bars.js";
import { announce, isBusy, make, setBusy } from "./dom.js";
import { t } from "./language.js";
import { showError } from "./notice.js";

const MOST = 8; // of those in the prompt; each is one more prompt
const LEAST = 1e-6;
const LABEL = t("Which clicked stories count?");

/**
 * Draws a button, and what it has asked for. answer: one of /rank with its `request`. Returns null
 * if the request holds no history.
 */
export function drawInfluence(answer, index) {
  const history = answer.request.history ?? [];
  if (!history.length) return null;
  const place = make("div", {});
  const button = make("button", { type: "button", onclick: ask }, LABEL);

  async function ask() {
    if (isBusy(button)) return;
    setBusy(button, true, t("Asking…"));
    try {
      const found = await leaveEachOut(answer, index);
      place.replaceChildren(...draw(found, history.length));
      announce(t("The language model was asked {count} times more.", { count: found.length }));
    } catch (error) {
      showError(place, error, { retry: ask });
    } finally {
      setBusy(button, false, LABEL);
    }
  }

  return make("div", { class: "influence" }, button, place);
}

/** Returns [{title, effect}] of the latest stories: what each adds to the log-odds of the text. */
async function leaveEachOut({ model, request, byIndex }, index) {
  const { history, liked = [], disliked = [], candidates } = request;
  const read = byIndex.get(index).history_used || MOST; // 0 of a story that only signals judged
  const first = Math.max(history.length - Math.min(read, MOST), 0);
  const pair = (stories) => ({ history: stories, liked, disliked, target: candidates[index] });
  const tried = history.slice(first);
  const { results } = await post("predict/batch", {
    model,
    degraded: "refuse",
    pairs: [
      pair(history),
      ...tried.map((_, place) => pair(history.filter((_, other) => other !== first + place))),
    ],
  });
  const [all, ...without] = results.map((one) => logit(one.text_probability));
  return tried.map((story, place) => ({
    title: story.title ?? story,
    effect: all - without[place],
  }));
}

function logit(probability) {
  const kept = Math.min(Math.max(probability, LEAST), 1 - LEAST);
  return Math.log(kept) - Math.log1p(-kept);
}

function draw(found, clicked) {
  const ordered = found.toSorted((one, other) => other.effect - one.effect);
  const most = Math.max(...found.map(({ effect }) => Math.abs(effect)));
  const values = { latest: found.length, all: clicked };
  return [
    drawBars(
      ordered.map(({ title, effect }) => [title, effect]),
      most,
    ),
    make(
      "p",
      { class: "hint" },
      t(
        "What each clicked story adds to the language model’s log-odds: the difference if it is" +
          " left out of the history ({which}).",
        {
          which:
            clicked > found.length
              ? t("the latest {latest} of {all}", values)
              : t("all of {all}", values),
        },
      ),
    ),
  ];
}
