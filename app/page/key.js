/** The API key: typed in here, kept only in this tab's session storage, forgotten on request. */

import { announce, byId, make } from "./dom.js";
import { t } from "./language.js";

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
    t("Forget key"),
  );
  const enter = make(
    "button",
    { type: "button", class: "quiet", onclick: () => askForKey() },
    readKey() ? t("Change key") : t("Enter key"),
  );
  byId("key").replaceChildren(enter, ...(readKey() ? [forget] : []));
  byId("docs").hidden = isUsed(); // the browser would open the link without the key
}

function forgetKey() {
  sessionStorage.removeItem(NAME);
  draw();
  announce(t("The key has been forgotten."));
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
    make("h2", { id: "key-title" }, t("API key")),
    why ? make("p", { class: "why" }, why) : null,
    make("label", { for: "key-input" }, t("Key")),
    input,
    make(
      "p",
      { class: "hint" },
      t("The key stays in this tab and is sent only to this service. Closing the tab forgets it."),
    ),
    make(
      "div",
      { class: "actions" },
      make("button", { type: "button", onclick: () => dialog.close() }, t("Cancel")),
      make("button", { type: "submit", class: "primary" }, t("Use key")),
    ),
  );

  function save(event) {
    event.preventDefault();
    sessionStorage.setItem(NAME, input.value.trim());
    dialog.close();
    draw();
    announce(t("The key will be used from now on."));
    changed();
  }

  if (document.querySelector("dialog[open]")) return;
  dialog.append(form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
}
