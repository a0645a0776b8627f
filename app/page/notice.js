/** Notices: boxes that say what went wrong, where, and what to do. */

import { make } from "./dom.js";
import { askForKey, noteNeeded } from "./key.js";
import { t } from "./language.js";

let timer = 0;

export function clearNotice(box) {
  clearInterval(timer);
  box.replaceChildren();
  for (const field of document.querySelectorAll(".invalid")) {
    field.classList.remove("invalid");
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-errormessage");
  }
}

/**
 * error: an ApiError. retry: called by "Try again". place: (param) → the field's name for users.
 * scope: the scope that a key needs here.
 */
export function showError(box, error, { retry, place = (param) => param, scope = "predict" } = {}) {
  clearNotice(box);
  const text = make(
    "div",
    { class: "notice" },
    make("p", { class: "what" }, heading(error)),
    make("p", {}, error.message),
  );
  const field = error.param === null ? null : highlight(error.param, box.id);
  if (error.param !== null) {
    text.append(make("p", {}, t("Field: {field}", { field: place(error.param) })));
  }
  if (error.retryAfterS !== null) text.append(countdown(error.retryAfterS));
  if (error.requestId) {
    text.append(make("p", { class: "hint" }, t("Request id: "), make("code", {}, error.requestId)));
  }
  const actions = make("div", { class: "actions" });
  if (field) actions.append(button(t("Go to the field"), () => field.focus()));
  if (error.needsKey) {
    noteNeeded();
    text.append(make("p", {}, t("This needs a key with the scope “{scope}”.", { scope })));
    actions.append(button(t("Enter key"), () => askForKey()));
  } else if (retry && (error.status >= 500 || error.status === 429 || error.status === 0)) {
    actions.append(button(t("Try again"), retry));
  }
  text.append(actions);
  box.replaceChildren(text);
}

const button = (label, onclick) => make("button", { type: "button", onclick }, label);

function heading(error) {
  if (error.status === 401) return t("Not authorised");
  if (error.status === 403) return t("This key may not do that");
  if (error.status === 429) return t("Too many requests from this key");
  if (error.code === "overloaded") return t("The service is busy");
  if (error.status === 0) return t("No answer");
  return error.status < 500 ? t("That can't be done") : t("The service can't answer");
}

/** A visual countdown. Screen readers announce it only once, with the rest of the notice. */
function countdown(seconds) {
  let left = seconds;
  const line = make("p", { class: "countdown" });
  const say = () => {
    line.textContent =
      left > 0
        ? t("Nothing was started. Try again in {seconds} s.", { seconds: left })
        : t("Try again now.");
    line.setAttribute("aria-live", "off");
    if (left-- <= 0) clearInterval(timer);
  };
  say();
  timer = setInterval(say, 1000);
  return line;
}

/** Marks the field that `param` names, or the nearest one around it, and returns it. */
function highlight(param, message) {
  const parts = param.split(".");
  for (let length = parts.length; length > 0; length--) {
    const name = CSS.escape(parts.slice(0, length).join("."));
    const field = document.querySelector(`[data-param="${name}"]`);
    if (!field) continue;
    field.classList.add("invalid");
    if (!field.matches("input, select, textarea")) return field.querySelector("button, input");
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-errormessage", message);
    return field;
  }
  return null;
}
