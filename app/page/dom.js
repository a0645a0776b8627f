/** Elements without markup from strings: what a user or a model writes stays text. */

/** make("a", {href: "docs", onclick: f}, "text", child): false and null leave out. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Tells a screen reader; for the eye the same is on the page. */
export function announce(text) {
  byId("announcements").textContent = text;
}

/** A button that looks off and keeps the focus, which `disabled` would drop. */
export function setBusy(button, isBusy, label) {
  button.setAttribute("aria-disabled", String(isBusy));
  button.textContent = label;
}

export const isBusy = (button) => button.getAttribute("aria-disabled") === "true";
