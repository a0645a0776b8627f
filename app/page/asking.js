/** Asking for the ranking of what the page is set to, and showing it or why there is none. */

import { post } from "./api.js";
import { asks, chosen, withTitles } from "./choices.js";
import { giveFeedback } from "./clicks.js";
import { drawCode } from "./code.js";
import { announce, byId, isBusy, make, setBusy } from "./dom.js";
import { count } from "./format.js";
import { askForKey, readKey } from "./key.js";
import { t } from "./language.js";
import { startLive } from "./live.js";
import { clearNotice, showError } from "./notice.js";
import { startProgress } from "./progress.js";
import { best, drawRanking } from "./ranking.js";
import { placeInReader, readLines, toReader } from "./reader.js";
import { DEGRADED } from "./stage.js";
import { applyState, readerName, readState } from "./state.js";
import { parseStories, toWire } from "./story.js";
import { remember } from "./tab.js";

let shown = null; // what the ranking below was asked for, as JSON
let isAskedAgain = false;

export const isShown = () => shown !== null;

const stories = () => parseStories(byId("candidates").value);
const readAsks = () => asks(readRequest(), readerName());

/** The request without the model. */
function readRequest() {
  const readerId = byId("reader-id").value.trim();
  return {
    explain: true,
    ...(readerId ? { reader_id: readerId } : {}),
    ...toReader(readLines()),
    candidates: stories().map(toWire),
  };
}

/** Shows what the page is set to now, after any change of it. */
export function redraw() {
  const request = readRequest();
  drawCode(chosen(request));
  byId("candidates-count").textContent = t("· {count} stories", {
    count: count(request.candidates.length),
  });
  markStale();
}

/** Greys a ranking that was made for another request than what the page says now. */
function markStale() {
  const isStale = isShown() && shown !== JSON.stringify(readAsks());
  byId("results").classList.toggle("stale", isStale);
  byId("stale").hidden = !isStale;
}

/** isAsked: whether the user wants to see it now, and not only the page that has been opened. */
export async function rank(isAsked = true) {
  const button = byId("rank");
  if (isBusy(button)) {
    isAskedAgain = isAsked;
    return;
  }
  clearNotice(byId("notice"));
  const asked = stories();
  if (!asked.length) {
    showEmpty();
    return;
  }
  const [wanted, reader, state] = [readAsks(), readerName(), readState()];
  const progress = startProgress(byId("progress"));
  setBusy(button, true, t("Ranking…"));
  byId("results").setAttribute("aria-busy", "true");
  announce(t("Ranking {count} stories.", { count: asked.length }));
  try {
    const answers = withTitles(await ask(wanted, asked.length, progress));
    shown = JSON.stringify(wanted);
    show(asked, answers, isAsked);
    remember(describe(reader, asked, answers), state, open);
  } catch (error) {
    fail(error);
  } finally {
    progress.end();
    setBusy(button, false, t("Rank"));
    byId("results").setAttribute("aria-busy", "false");
    markStale();
  }
  if (isAskedAgain) {
    isAskedAgain = false;
    await rank();
  }
}

/** One after the other, because concurrent requests would increase each other's latency. */
async function ask(wanted, candidates, progress) {
  const answers = [];
  for (const { title, body } of wanted) {
    const values = { count: count(candidates), number: answers.length + 1, all: wanted.length };
    const text =
      wanted.length > 1
        ? t("Ranking {count} stories, {number} of {all}", values)
        : t("Ranking {count} stories", values);
    progress.say(text, answers.length, wanted.length);
    answers.push({ ...(await post("rank", body)), request: body, title });
  }
  return answers;
}

/** Sets the page to an earlier state, or that of a link, and ranks. */
export async function open(state) {
  applyState(state);
  redraw();
  await rank();
}

function show(asked, answers, isAsked) {
  byId("results").replaceChildren(drawRanking(asked, answers, giveFeedback));
  startLive();
  const [first] = answers;
  const said = t("Ranked {count} stories in {milliseconds} milliseconds. First: {first}.", {
    count: asked.length,
    milliseconds: count(first.latency_ms),
    first: best(asked, first),
  });
  announce(answers.some((one) => one.degraded) ? `${said} ${DEGRADED}` : said);
  const top = byId("results").getBoundingClientRect().top;
  const isSeen = top >= 0 && top < innerHeight * 0.8;
  if (isAsked && !isSeen) byId("ranking").scrollIntoView(); // on a phone
}

/** What the list of this tab's rankings says of one. */
function describe(reader, asked, answers) {
  const names = [...new Set([reader, ...answers.map(({ title }) => title)])];
  return {
    what: t("{names}: {count} stories", { names: names.join(t(", ")), count: count(asked.length) }),
    first: best(asked, answers[0]),
  };
}

function showEmpty() {
  const text = t("There is nothing to rank: add at least one story.");
  const line = make("p", { class: "empty" }, text);
  shown = null;
  byId("results").replaceChildren(line);
  markStale();
  announce(text);
  byId("candidates").focus();
}

function fail(error) {
  shown = null;
  byId("results").replaceChildren();
  showError(byId("notice"), error, { retry: rank, place });
  redraw();
  if (error.needsKey) askForKey(readKey() ? error.message : "");
}

/** The field that an error's `param` names, for users. */
function place(param) {
  const [name, index] = param.split(".");
  if (name === "candidates" && index !== undefined) {
    return t("The stories, line {line}", { line: stories()[Number(index)]?.line ?? "?" });
  }
  const own = { candidates: t("The stories"), model: t("Model"), reader_id: t("Reader id") };
  return placeInReader(param) ?? own[name] ?? param;
}
