/** A dialog that asks for confirmation before something changes for readers. */

import { make } from "./dom.js";
import { t } from "./language.js";

/** content: elements that say what will change. Resolves to whether the user confirmed. */
export function confirmChange(title, content, action) {
  return new Promise((resolve) => {
    const close = (value) => () => dialog.close(value);
    const dialog = make(
      "dialog",
      { "aria-labelledby": "confirm-title" },
      make("h2", { id: "confirm-title" }, title),
      ...content,
      make(
        "div",
        { class: "actions" },
        make("button", { type: "button", onclick: close("") }, t("Cancel")),
        make("button", { type: "button", class: "primary", onclick: close("yes") }, action),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
