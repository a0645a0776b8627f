/** The try-it page: its request, sending it, and showing the answer. */

import { address, get, post } from "./api.js";
import { announce, byId, isBusy, make, setBusy } from "./dom.js";
import { FRONT_PAGE, READERS } from "./examples.js";
import { count } from "./format.js";
import { askForKey, installKey, isUsed, readKey } from "./key.js";
import { startLive } from "./live.js";
import { clearNotice, showError } from "./notice.js";
import { best, drawRanking } from "./ranking.js";
import { installReader, placeInReader, readReader, setReader } from "./reader.js";
import { toCurl, toPython } from "./snippets.js";
import { DEGRADED } from "./stage.js";
import { parseStories, toWire } from "./story.js";

const stories = () => parseStories(byId("candidates").value);

/** The request without the model, which is the same for both models of a comparison. */
function readRequest() {
  const readerId = byId("reader-id").value.trim();
  return {
    explain: true,
    ...(readerId ? { reader_id: readerId } : {}),
    ...readReader(),
    candidates: stories().map(toWire),
  };
}

const DEFAULT = ""; // names no model

const named = (model, request) => (model === DEFAULT ? request : { model, ...request });

function redraw() {
  const request = named(byId("model").value, readRequest());
  byId("curl").textContent = toCurl(address("rank"), request, isUsed());
  byId("python").textContent = toPython(address("rank"), request, isUsed());
  byId("key-hint").hidden = !isUsed();
  byId("candidates-count").textContent = `· ${count(request.candidates.length)} stories`;
}

function place(param) {
  const [name, index] = param.split(".");
  if (name === "candidates" && index !== undefined) {
    return `The stories, line ${stories()[Number(index)]?.line ?? "?"}`;
  }
  const own = { candidates: "The stories", model: "Model", reader_id: "Reader id" };
  return placeInReader(param) ?? own[name] ?? param;
}

async function rank() {
  const button = byId("rank");
  if (isBusy(button)) return;
  clearNotice(byId("notice"));
  const asked = stories();
  const other = byId("other").value;
  const models = [byId("model").value, ...(other ? [other] : [])];
  if (!asked.length) return showEmpty();
  const request = readRequest();
  setBusy(button, true, "Ranking…");
  byId("results").setAttribute("aria-busy", "true");
  announce(`Ranking ${asked.length} stories.`);
  try {
    const answers = [];
    // One after the other, because concurrent requests would increase each other's latency.
    for (const model of models) answers.push(await post("rank", named(model, request)));
    show(asked, answers);
  } catch (error) {
    fail(error);
  } finally {
    setBusy(button, false, "Rank");
    byId("results").setAttribute("aria-busy", "false");
  }
}

function show(asked, answers) {
  byId("results").replaceChildren(drawRanking(asked, answers, giveFeedback));
  startLive();
  const [first] = answers;
  announce(
    `Ranked ${asked.length} stories in ${count(first.latency_ms)} milliseconds.` +
      ` First: ${best(asked, first)}.${answers.some((one) => one.degraded) ? ` ${DEGRADED}` : ""}`,
  );
  const top = byId("results").getBoundingClientRect().top;
  if (top < 0 || top > innerHeight / 2) byId("ranking").scrollIntoView(); // on a phone
}

function showEmpty() {
  const line = make("p", { class: "empty" }, "There is nothing to rank: add at least one story.");
  byId("results").replaceChildren(line);
  announce(line.textContent);
  byId("candidates").focus();
}

function fail(error) {
  byId("results").replaceChildren();
  showError(byId("notice"), error, { retry: rank, place });
  redraw();
  if (error.needsKey) askForKey(readKey() ? error.message : "");
}

async function giveFeedback(answer, index, clicked) {
  try {
    clearNotice(byId("notice"));
    await post("feedback", { id: answer.id, index, clicked });
  } catch (error) {
    showError(byId("notice"), error);
    return false;
  }
  if (clicked) await sendClick(answer, index);
  return true;
}

/**
 * Live figures learn of a click from an event, whose id makes it count once. They count it once too
 * where the service remembers its answers and so has learned of the click from the feedback.
 */
async function sendClick(answer, index) {
  const story = answer.results.find((one) => one.index === index).id;
  const id = `${answer.id}-${index}`;
  try {
    await post("events", { events: [{ type: "click", id, story, impression_id: answer.id }] });
  } catch (error) {
    showError(byId("notice"), error, { scope: "events" });
  }
}

/** Loads the list of models; also called after the key has changed. */
async function loadModels() {
  const [model, other] = [byId("model"), byId("other")];
  const chosen = [model.value, other.value];
  const option = (id, text) => make("option", { value: id }, text);
  startLive();
  try {
    const { data } = await get("v1/models");
    const text = ({ id, parent }) => (parent ? `${id} (on ${parent})` : id);
    model.replaceChildren(
      option(DEFAULT, "The default"),
      ...data.map((m) => option(m.id, text(m))),
    );
    other.replaceChildren(option("", "Nothing"), ...data.map((m) => option(m.id, text(m))));
    [model.value, other.value] = chosen.map((id) => (data.some((m) => m.id === id) ? id : ""));
    clearNotice(byId("notice"));
  } catch (error) {
    model.replaceChildren(option(DEFAULT, "The default"));
    other.replaceChildren(option("", "Nothing"));
    showError(byId("notice"), error, { retry: loadModels });
  }
  redraw();
}

async function copy(button) {
  const text = byId(button.dataset.copy).textContent;
  const label = button.firstChild;
  try {
    await navigator.clipboard.writeText(text);
    label.textContent = "Copied";
    announce("Copied.");
  } catch {
    getSelection().selectAllChildren(byId(button.dataset.copy)); // no clipboard over plain HTTP
    announce("Selected. Copy it with your keyboard.");
    label.textContent = "Press Ctrl+C";
  }
  setTimeout(() => {
    label.textContent = "Copy";
  }, 2000);
}

function drawExamples() {
  const choose = (reader, button) => {
    setReader(reader);
    for (const one of byId("examples").children) {
      one.setAttribute("aria-pressed", String(one === button));
    }
  };
  byId("examples").replaceChildren(
    ...READERS.map((reader) =>
      make(
        "button",
        {
          type: "button",
          onclick: (event) => choose(reader, event.currentTarget),
        },
        reader.name,
      ),
    ),
  );
  choose(READERS[0], byId("examples").firstChild);
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
byId("reader-id").addEventListener("input", redraw);
byId("model").addEventListener("change", redraw);
byId("example-stories").addEventListener("click", () => setStories(FRONT_PAGE));
byId("clear-stories").addEventListener("click", () => {
  setStories([]);
  byId("candidates").focus();
});
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copy(button));
}
byId("candidates").value = FRONT_PAGE.join("\n");
installKey(loadModels);
installReader(byId("lists"), redraw);
drawExamples();
loadModels();
