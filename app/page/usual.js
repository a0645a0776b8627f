/** A probability in words: how it compares with a usual story, the mean of those ranked together. */

import { percent } from "./format.js";
import { t } from "./language.js";

const NUMBERS = [
  "",
  "",
  t("twice"),
  t("three times"),
  t("four times"),
  t("five times"),
  t("six times"),
];
/** From which ratio on each phrase holds, the highest first. */
const STEPS = [
  [1.75, null],
  [1.3, t("one and a half times")],
  [0.77, t("about")],
  [0.58, t("two thirds of")],
  [0.42, t("half")],
  [0.29, t("a third of")],
  [0.22, t("a quarter of")],
  [0.15, t("a fifth of")],
  [0, t("far below")],
];

/** results: of one answer. Returns the mean of their probabilities. */
export const usualOf = (results) =>
  results.reduce((sum, { probability }) => sum + probability, 0) / results.length;

/** 0.12 of a usual 0.04 → "three times a usual story (4 %)" */
export function timesUsual(probability, usual) {
  const ratio = usual > 0 ? probability / usual : 1;
  const whole = Math.round(ratio);
  const found = STEPS.find(([from]) => ratio >= from)[1];
  return t("{times} a usual story ({share})", {
    times: found ?? NUMBERS[whole] ?? t("{ratio} times", { ratio: whole }),
    share: roughly(usual),
  });
}

/** Whole percents as far as they tell anything: 0.0432 → "4 %" */
const roughly = (share) => (share < 0.01 ? percent(share) : `${Math.round(share * 100)} %`);
