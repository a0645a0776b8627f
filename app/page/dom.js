/** Building elements without parsing markup, so that text of users and models stays text. */

/**
 * make("a", {href: "docs", onclick: f}, "text", child). Attributes that are false or null and
 * children that are null are left out.
 */
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

/** Announces text to screen readers only; the page shows the same information visibly. */
export function announce(text) {
  byId("announcements").textContent = text;
}

/** Makes a button look disabled without the attribute `disabled`, which would drop its focus. */
export function setBusy(button, isBusy, label) {
  button.setAttribute("aria-disabled", String(isBusy));
  button.textContent = label;
}

export const isBusy = (button) => button.getAttribute("aria-disabled") === "true";
