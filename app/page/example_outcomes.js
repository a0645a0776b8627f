/** Invented outcomes of two models, in the shape of GET /experiments. Nothing of it is stored. */

const DAYS = 14;
const POSITIONS = 11;
const Z = 1.96;

/** Each day's figures of one model vary around its click-through, always in the same way. */
function model(name, share, ratio, auc) {
  const days = Array.from({ length: DAYS }, (_, day) => {
    const impressions = 900 + ((day * 37) % 11) * 20;
    const wave = 1 + 0.12 * Math.sin(day * 1.7 + share * 100);
    return { day: dayAt(day), ...shareOf(impressions, Math.round(impressions * share * wave)) };
  });
  const sum = (field) => days.reduce((total, one) => total + one[field], 0);
  const [impressions, clicks] = [sum("impressions"), sum("clicks")];
  const weights = Array.from({ length: POSITIONS }, (_, place) => 1 / (place + 1.5));
  const all = weights.reduce((total, weight) => total + weight, 0);
  return {
    model: name,
    alias: "default",
    answers: Math.round(impressions / 8),
    answers_with_feedback: Math.round(impressions / 10),
    ...shareOf(impressions, clicks),
    by_position: weights.map((weight, place) => ({
      position: place < POSITIONS - 1 ? String(place + 1) : `${POSITIONS}+`,
      ...shareOf(Math.round(impressions / POSITIONS), Math.round((clicks * weight) / all)),
    })),
    by_day: days,
    auc: { value: auc, low: auc - 0.02, high: auc + 0.02 },
    clicks_per_expected: { value: ratio, low: ratio * 0.93, high: ratio * 1.07 },
  };
}

function shareOf(impressions, clicks) {
  const value = clicks / impressions;
  const half = Z * Math.sqrt((value * (1 - value)) / impressions);
  const click_through = { value, low: Math.max(value - half, 0), high: value + half };
  return { impressions, clicks, click_through };
}

const dayAt = (day) => new Date(Date.UTC(2026, 0, 5 + day)).toISOString().slice(0, 10);

const [ONE, OTHER] = [
  model("example-tuned", 0.047, 1.04, 0.66),
  model("example-base", 0.041, 0.86, 0.55),
];
const value = ONE.click_through.value - OTHER.click_through.value;

export const EXAMPLE = {
  models: [ONE, OTHER],
  differences: [
    {
      alias: "default",
      model: ONE.model,
      other: OTHER.model,
      click_through: {
        value,
        anytime: { low: value - 0.0075, high: value + 0.0075 },
        more: 13_437,
      },
    },
  ],
};
