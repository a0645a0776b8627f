/** The try-it page: what its controls do, and what it shows when it is opened. */

import { get } from "./api.js";
import { isShown, open, rank, redraw } from "./asking.js";
import { drawChoices, noteChoice } from "./choices.js";
import { installCode } from "./code.js";
import { announce, byId, make } from "./dom.js";
import { FRONT_PAGE, READERS } from "./examples.js";
import { installKey } from "./key.js";
import { t } from "./language.js";
import { fromFragment, toLink } from "./link.js";
import { startLive } from "./live.js";
import { clearNotice, showError } from "./notice.js";
import { installPaste } from "./paste.js";
import { installReader, setReader } from "./reader.js";
import { applyState, currentExample, readState } from "./state.js";
import { drawTab } from "./tab.js";

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
  if (!isShown()) await rank(false);
}

function drawExamples() {
  const choose = (reader) => {
    setReader(reader);
    if (isShown()) rank();
  };
  byId("examples").replaceChildren(
    ...READERS.map((reader) =>
      make("button", { type: "button", onclick: () => choose(reader) }, reader.name),
    ),
  );
}

/** Only as long as the lists hold it unchanged is an example the reader. */
function changeReader() {
  const example = currentExample();
  [...byId("examples").children].forEach((button, number) =>
    button.setAttribute("aria-pressed", String(READERS[number] === example)),
  );
  redraw();
}

function setStories(lines) {
  byId("candidates").value = lines.join("\n");
  say("");
  redraw();
}

/** Says below the stories what became of what was pasted, or of a link. */
function say(text) {
  byId("pasted").textContent = text;
  byId("pasted").hidden = !text;
  if (text) announce(text);
}

function takePasted(lines, text) {
  setStories(lines);
  say(text);
}

/** Returns whether the address held a state, which the page has now. */
async function openLink() {
  try {
    const state = await fromFragment(location.hash);
    if (state) applyState(state);
    return state !== null;
  } catch (error) {
    say(error.message);
    return false;
  }
}

async function copyLink() {
  const link = await toLink(readState());
  history.replaceState(null, "", link);
  try {
    await navigator.clipboard.writeText(link);
    announce(t("The link is copied."));
    byId("link").textContent = t("Copied");
  } catch {
    announce(t("The link is in the address bar.")); // no clipboard over plain HTTP
    byId("link").textContent = t("See the address bar");
  }
  setTimeout(() => {
    byId("link").textContent = t("Copy a link to this");
  }, 2000);
}

/** In the other language, the page is set to what it is set to now. */
async function switchLanguage(event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a tab or window of its own
  event.preventDefault();
  const { search } = event.currentTarget;
  const link = new URL(await toLink(readState()));
  link.search = search;
  location.assign(link);
}

function installControls() {
  for (const link of byId("language").children) link.addEventListener("click", switchLanguage);
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    rank();
  });
  byId("candidates").addEventListener("input", redraw);
  byId("candidates").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) rank();
  });
  byId("reader-id").addEventListener("input", redraw);
  for (const id of ["model", "other"]) {
    byId(id).addEventListener("input", () => {
      noteChoice();
      redraw();
    });
  }
  byId("example-stories").addEventListener("click", () => {
    setStories(FRONT_PAGE);
    rank();
  });
  byId("clear-stories").addEventListener("click", () => {
    setStories([]);
    byId("candidates").focus();
  });
  byId("link").addEventListener("click", copyLink);
  addEventListener("hashchange", async () => {
    if (await openLink()) await rank();
  });
}

byId("candidates").value = FRONT_PAGE.join("\n");
installCode();
installKey(loadModels);
installPaste(byId("candidates"), takePasted, say);
drawExamples();
installReader(byId("lists"), changeReader);
installControls();
setReader(READERS[0]);
drawTab(open);
await openLink();
loadModels();
