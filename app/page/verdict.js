/** Where the comparison of two models stands, in a sentence. */

import { make } from "./dom.js";
import { count } from "./format.js";
import { t } from "./language.js";

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
  const values = { model, other };
  if (!found) return t("Nothing is known yet of {model} and {other}.", values);
  const { anytime, more } = found;
  if (anytime && anytime.low > 0) return t("{model} gets more clicks than {other}.", values);
  if (anytime && anytime.high < 0) return t("{other} gets more clicks than {model}.", values);
  if (more === null) return t("Too early to compare {model} with {other}.", values);
  return more > MOST
    ? t("Too early to compare {model} with {other}: about {more} or more impressions.", {
        ...values,
        more: count(MOST),
      })
    : t("Too early to compare {model} with {other}: about {more} more impressions.", {
        ...values,
        more: roughly(more),
      });
}

function inFigures(model, other, found) {
  if (!found) return t("No answers of both have feedback.");
  const { value, anytime, more } = found;
  const range = anytime
    ? t(" (anytime-valid range {low} to {high})", {
        low: points(anytime.low),
        high: points(anytime.high),
      })
    : "";
  const until = more
    ? t(" So many impressions are needed if the difference and the split stay as they are.")
    : more === null
      ? t(" So far there is no difference that more impressions would show, or too little to tell.")
      : "";
  const values = { model, other, points: points(Math.abs(value)), range };
  const said =
    value < 0
      ? t(
          "Click-through of {model} is {points} percentage points below that of {other}{range}.",
          values,
        )
      : t(
          "Click-through of {model} is {points} percentage points above that of {other}{range}.",
          values,
        );
  return said + until;
}

/** Two digits tell enough of an estimate: 2437 → "2,400" */
function roughly(number) {
  const unit = 10 ** Math.max(Math.floor(Math.log10(Math.max(number, 1))) - 1, 0);
  return count(Math.ceil(number / unit) * unit);
}

/** 0.0042 → "0.42", in percentage points. */
const points = (share) =>
  (share * 100).toFixed(share !== 0 && Math.abs(share) < 0.001 ? 3 : 2).replace("-", "−");
