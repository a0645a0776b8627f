/** Formatting of numbers. */

/** 0.0503 → "5.03 %", precise enough to tell apart a calibrated model's small probabilities. */
export function percent(share) {
  if (share === 0 || share === 1) return `${share * 100} %`;
  if (share >= 0.1) return `${(share * 100).toFixed(1)} %`;
  return `${(share * 100).toFixed(share < 0.001 ? 3 : 2)} %`;
}

export const count = (number) => Math.round(number).toLocaleString("en");

/** seconds → "12.3 ms" or "1.23 s". */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  return seconds < 1 ? `${(seconds * 1000).toPrecision(3)} ms` : `${seconds.toFixed(2)} s`;
}

export const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : count(value)} ms`;
