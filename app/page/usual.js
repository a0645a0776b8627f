/** A probability in words: how it compares with a usual story, the mean of those ranked together. */

import { percent } from "./format.js";

const NUMBERS = ["", "", "twice", "three times", "four times", "five times", "six times"];
/** From which ratio on each phrase holds, the highest first. */
const STEPS = [
  [1.75, null],
  [1.3, "one and a half times"],
  [0.77, "about"],
  [0.58, "two thirds of"],
  [0.42, "half"],
  [0.29, "a third of"],
  [0.22, "a quarter of"],
  [0.15, "a fifth of"],
  [0, "far below"],
];

/** results: of one answer. Returns the mean of their probabilities. */
export const usualOf = (results) =>
  results.reduce((sum, { probability }) => sum + probability, 0) / results.length;

/** 0.12 of a usual 0.04 → "three times a usual story (4 %)" */
export function timesUsual(probability, usual) {
  const ratio = usual > 0 ? probability / usual : 1;
  const whole = Math.round(ratio);
  const found = STEPS.find(([from]) => ratio >= from)[1];
  return `${found ?? NUMBERS[whole] ?? `${whole} times`} a usual story (${roughly(usual)})`;
}

/** Whole percents as far as they tell anything: 0.0432 → "4 %" */
const roughly = (share) => (share < 0.01 ? percent(share) : `${Math.round(share * 100)} %`);
