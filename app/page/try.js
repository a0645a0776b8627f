/** The try-it page: its request, sending it, and showing the answer. */

import { get, post } from "./api.js";
import { chosen, drawChoices, requests, withTitles } from "./choices.js";
import { giveFeedback } from "./clicks.js";
import { drawCode, installCode } from "./code.js";
import { announce, byId, isBusy, make, setBusy } from "./dom.js";
import { FRONT_PAGE, READERS } from "./examples.js";
import { count } from "./format.js";
import { askForKey, installKey, readKey } from "./key.js";
import { startLive } from "./live.js";
import { clearNotice, showError } from "./notice.js";
import { startProgress } from "./progress.js";
import { best, drawRanking } from "./ranking.js";
import { installReader, placeInReader, readReader, setReader } from "./reader.js";
import { DEGRADED } from "./stage.js";
import { parseStories, toWire } from "./story.js";

let shown = null; // what the ranking below was asked for, as JSON
let isAskedAgain = false;

const stories = () => parseStories(byId("candidates").value);

/** The request without the model. */
function readRequest() {
  const readerId = byId("reader-id").value.trim();
  return {
    explain: true,
    ...(readerId ? { reader_id: readerId } : {}),
    ...readReader(),
    candidates: stories().map(toWire),
  };
}

function redraw() {
  const request = readRequest();
  drawCode(chosen(request));
  byId("candidates-count").textContent = `· ${count(request.candidates.length)} stories`;
  markStale();
}

/** Greys a ranking that was made for another request than what the page says now. */
function markStale() {
  const isStale = shown !== null && shown !== JSON.stringify(requests(readRequest()));
  byId("results").classList.toggle("stale", isStale);
  byId("stale").hidden = !isStale;
}

function place(param) {
  const [name, index] = param.split(".");
  if (name === "candidates" && index !== undefined) {
    return `The stories, line ${stories()[Number(index)]?.line ?? "?"}`;
  }
  const own = { candidates: "The stories", model: "Model", reader_id: "Reader id" };
  return placeInReader(param) ?? own[name] ?? param;
}

/** isAsked: whether the user wants to see it now, and not only the page that has been opened. */
async function rank(isAsked = true) {
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
  const bodies = requests(readRequest());
  const progress = startProgress(byId("progress"));
  setBusy(button, true, "Ranking…");
  byId("results").setAttribute("aria-busy", "true");
  announce(`Ranking ${asked.length} stories.`);
  try {
    const answers = [];
    // One after the other, because concurrent requests would increase each other's latency.
    for (const body of bodies) {
      const which = bodies.length > 1 ? `, ${answers.length + 1} of ${bodies.length}` : "";
      const text = `Ranking ${count(asked.length)} stories${which}`;
      progress.say(text, answers.length, bodies.length);
      answers.push({ ...(await post("rank", body)), request: body });
    }
    shown = JSON.stringify(bodies);
    show(asked, withTitles(answers), isAsked);
  } catch (error) {
    fail(error);
  } finally {
    progress.end();
    setBusy(button, false, "Rank");
    byId("results").setAttribute("aria-busy", "false");
    markStale();
  }
  if (isAskedAgain) {
    isAskedAgain = false;
    await rank();
  }
}

function show(asked, answers, isAsked) {
  byId("results").replaceChildren(drawRanking(asked, answers, giveFeedback));
  startLive();
  const [first] = answers;
  announce(
    `Ranked ${asked.length} stories in ${count(first.latency_ms)} milliseconds.` +
      ` First: ${best(asked, first)}.${answers.some((one) => one.degraded) ? ` ${DEGRADED}` : ""}`,
  );
  const top = byId("results").getBoundingClientRect().top;
  const isSeen = top >= 0 && top < innerHeight * 0.8;
  if (isAsked && !isSeen) byId("ranking").scrollIntoView(); // on a phone
}

function showEmpty() {
  const line = make("p", { class: "empty" }, "There is nothing to rank: add at least one story.");
  shown = null;
  byId("results").replaceChildren(line);
  markStale();
  announce(line.textContent);
  byId("candidates").focus();
}

function fail(error) {
  shown = null;
  byId("results").replaceChildren();
  showError(byId("notice"), error, { retry: rank, place });
  redraw();
  if (error.needsKey) askForKey(readKey() ? error.message : "");
}

/** Loads the list of models; also called after the key has changed. Then ranks, once. */
async function loadModels() {
  startLive();
  try {
    drawChoices((await get("v1/models")).data);
    clearNotice(byId("notice"));
  } catch (error) {
    drawChoices([]);
    showError(byId("notice"), error, { retry: loadModels });
    redraw();
    return;
  }
  redraw();
  if (shown === null) await rank(false);
}

function drawExamples() {
  byId("examples").replaceChildren(
    ...READERS.map((reader) =>
      make("button", { type: "button", onclick: () => chooseReader(reader) }, reader.name),
    ),
  );
}

function chooseReader(reader) {
  setReader(reader);
  [...byId("examples").children].forEach((button, number) =>
    button.setAttribute("aria-pressed", String(READERS[number] === reader)),
  );
  if (shown !== null) rank();
}

/** What the reader's lists hold is no example any more. */
function editReader() {
  for (const button of byId("examples").children) button.setAttribute("aria-pressed", "false");
  redraw();
}

function setStories(lines) {
  byId("candidates").value = lines.join("\n");
  redraw();
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  rank();
});
byId("candidates").addEventListener("input", redraw);
byId("candidates").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) rank();
});
for (const id of ["reader-id", "model", "other"]) byId(id).addEventListener("input", redraw);
byId("example-stories").addEventListener("click", () => {
  setStories(FRONT_PAGE);
  rank();
});
byId("clear-stories").addEventListener("click", () => {
  setStories([]);
  byId("candidates").focus();
});
byId("candidates").value = FRONT_PAGE.join("\n");
installCode();
installKey(loadModels);
drawExamples();
installReader(byId("lists"), editReader);
chooseReader(READERS[0]);
loadModels();
