/** The API key: typed in here, kept only in this tab's session storage, forgotten on request. */

import { announce, byId, make } from "./dom.js";

const NAME = "frontpage.key";

export const readKey = () => sessionStorage.getItem(NAME) ?? "";

let isNeeded = false;
let changed = () => {};

/** Draws the key's buttons into #key. `onChange` runs after a key was entered or forgotten. */
export function installKey(onChange) {
  changed = onChange;
  draw();
}

/** Notes that the service needs a key; called after a 401 or 403. */
export function noteNeeded() {
  isNeeded = true;
  draw();
}

export const isUsed = () => isNeeded || readKey() !== "";

function draw() {
  const forget = make(
    "button",
    { type: "button", class: "quiet", onclick: forgetKey },
    "Forget key",
  );
  const enter = make(
    "button",
    { type: "button", class: "quiet", onclick: () => askForKey() },
    readKey() ? "Change key" : "Enter key",
  );
  byId("key").replaceChildren(enter, ...(readKey() ? [forget] : []));
  byId("docs").hidden = isUsed(); // the browser would open the link without the key
}

function forgetKey() {
  sessionStorage.removeItem(NAME);
  draw();
  announce("The key has been forgotten.");
  byId("key").querySelector("button").focus();
  changed();
}

/** Asks for the key in a dialog. why: the service's message, if it rejected the last key. */
export function askForKey(why = "") {
  const input = make("input", {
    id: "key-input",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
  });
  const dialog = make("dialog", { "aria-labelledby": "key-title" });
  const form = make(
    "form",
    { onsubmit: save },
    make("h2", { id: "key-title" }, "API key"),
    why ? make("p", { class: "why" }, why) : null,
    make("label", { for: "key-input" }, "Key"),
    input,
    make(
      "p",
      { class: "hint" },
      "The key stays in this tab and is sent only to this service. Closing the tab forgets it.",
    ),
    make(
      "div",
      { class: "actions" },
      make("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
      make("button", { type: "submit", class: "primary" }, "Use key"),
    ),
  );

  function save(event) {
    event.preventDefault();
    sessionStorage.setItem(NAME, input.value.trim());
    dialog.close();
    draw();
    announce("The key will be used from now on.");
    changed();
  }

  if (document.querySelector("dialog[open]")) return;
  dialog.append(form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
}
