/** The API key: typed in here, kept in this tab's session storage only, forgotten on demand. */

import { announce, byId, make } from "./dom.js";

const NAME = "frontpage.key";

export const readKey = () => sessionStorage.getItem(NAME) ?? "";

let isNeeded = false;
let changed = () => {};

/** Draws the key's button into #key; `onChange` runs after a key was entered or forgotten. */
export function installKey(onChange) {
  changed = onChange;
  draw();
}

/** After a 401 or 403. */
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
  byId("docs").hidden = isUsed(); // a browser opens it without the key
}

function forgetKey() {
  sessionStorage.removeItem(NAME);
  draw();
  announce("The key is forgotten.");
  byId("key").querySelector("button").focus();
  changed();
}

/** Shows the dialog. why: what the service said. */
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
      "It stays in this tab and is sent to this service only. Closing the tab forgets it.",
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
    announce("The key is used from now on.");
    changed();
  }

  if (document.querySelector("dialog[open]")) return;
  dialog.append(form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
}
