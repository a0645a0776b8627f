/** Signed figures, as text and as bars from the middle. */

import { make } from "./dom.js";

/** 0.417 → "+0.42" */
export function signed(value) {
  const text = Math.abs(value).toFixed(2);
  return `${text === "0.00" ? "±" : value < 0 ? "−" : "+"}${text}`;
}

/** Draws a bar to the right for what adds, to the left for what takes away. most: > 0 is full. */
function drawBar(value, most) {
  const added = make("span", { class: value < 0 ? "added less" : "added" });
  added.style.width = `${most > 0 ? (Math.abs(value) / most) * 50 : 0}%`;
  return make("span", { class: "signed", "aria-hidden": "true" }, added);
}

/** rows: [name, value]. most: the value whose bar fills its half. */
export function drawBars(rows, most) {
  return make(
    "dl",
    { class: "groups" },
    ...rows.map(([name, value]) =>
      make(
        "div",
        {},
        make("dt", {}, name),
        make(
          "dd",
          {},
          drawBar(value, most),
          make("span", { class: "number" }, signed(value)),
        ),
      ),
    ),
  );
}
