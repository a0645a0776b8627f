/** The panel that shows the request as code, to be copied. */

import { address } from "./api.js";
import { announce, byId } from "./dom.js";
import { isUsed } from "./key.js";
import { t } from "./language.js";
import { toCurl, toPython } from "./snippets.js";

export function drawCode(request) {
  byId("curl").textContent = toCurl(address("rank"), request, isUsed());
  byId("python").textContent = toPython(address("rank"), request, isUsed());
  byId("key-hint").hidden = !isUsed();
}

export function installCode() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copy(button));
  }
}

async function copy(button) {
  const text = byId(button.dataset.copy).textContent;
  const label = button.firstChild;
  try {
    await navigator.clipboard.writeText(text);
    label.textContent = t("Copied");
    announce(t("Copied."));
  } catch {
    getSelection().selectAllChildren(byId(button.dataset.copy)); // no clipboard over plain HTTP
    announce(t("Selected. Copy it with your keyboard."));
    label.textContent = t("Press Ctrl+C");
  }
  setTimeout(() => {
    label.textContent = t("Copy");
  }, 2000);
}
