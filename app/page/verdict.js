/** Where the comparison of two models stands, in a sentence. */

import { make } from "./dom.js";
import { count } from "./format.js";

const MOST = 10_000_000;

/** difference: one of GET /experiments. */
export function drawVerdict({ model, other, click_through: found }) {
  return make(
    "div",
    { class: "verdict" },
    make("p", { class: "difference" }, make("strong", {}, stands(model, other, found))),
    make("p", { class: "hint" }, inFigures(model, other, found)),
  );
}

function stands(model, other, found) {
  if (!found) return `Nothing is known yet of ${model} and ${other}.`;
  const { anytime, more } = found;
  if (anytime && anytime.low > 0) return `${model} gets more clicks than ${other}.`;
  if (anytime && anytime.high < 0) return `${other} gets more clicks than ${model}.`;
  const early = `Too early to compare ${model} with ${other}`;
  return more === null ? `${early}.` : `${early}: about ${roughly(more)} more impressions.`;
}

function inFigures(model, other, found) {
  if (!found) return "No answers of both have feedback.";
  const { value, anytime, more } = found;
  const range = anytime
    ? ` (anytime-valid range ${points(anytime.low)} to ${points(anytime.high)})`
    : "";
  const side = value < 0 ? "below" : "above";
  const until = more
    ? " So many impressions are needed if the difference and the split stay as they are."
    : more === null
      ? " So far there is no difference that more impressions would show, or too little to tell."
      : "";
  return (
    `Click-through of ${model} is ${points(Math.abs(value))} percentage points ${side} that of` +
    ` ${other}${range}.${until}`
  );
}

/** Two digits tell enough of an estimate: 2437 → "2,400" */
function roughly(number) {
  if (number > MOST) return `${count(MOST)} or`;
  const unit = 10 ** Math.max(Math.floor(Math.log10(Math.max(number, 1))) - 1, 0);
  return count(Math.ceil(number / unit) * unit);
}

/** 0.0042 → "0.42", in percentage points. */
const points = (share) =>
  (share * 100).toFixed(share !== 0 && Math.abs(share) < 0.001 ? 3 : 2).replace("-", "−");
