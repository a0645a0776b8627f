/** What feedback says about each model: figures with their 95 % intervals, as text and drawn. */

import { make } from "./dom.js";
import { count, percent } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 120;
const HEIGHT = 12;
const FIGURES = [
  { field: "click_through", title: "Click-through", format: percent },
  { field: "auc", title: "AUC", format: (value) => value.toFixed(3), mark: 0.5 },
  {
    field: "clicks_per_expected",
    title: "Clicks per expected",
    format: (v) => v.toFixed(2),
    mark: 1,
  },
];

/**
 * Draws one table per alias, with how its models differ, and last the models without an alias.
 * Both arguments are as in GET /experiments.
 */
export function drawOutcomes(models, differences) {
  if (!models.length) {
    return [
      make(
        "p",
        { class: "empty" },
        "No answers are kept yet. Rank some stories, then mark what was clicked.",
      ),
    ];
  }
  const scales = FIGURES.map(({ field, mark }) =>
    scaleOf(
      models.map((one) => one[field]),
      mark,
    ),
  );
  const aliases = [...new Set(models.map((one) => one.alias))].sort(
    (a, b) => (a === null) - (b === null),
  );
  return aliases.flatMap((alias) => [
    drawTable(
      alias,
      models.filter((one) => one.alias === alias),
      scales,
    ),
    ...differences.filter((one) => one.alias === alias).map(drawDifference),
  ]);
}

function drawDifference({ model, other, click_through: found }) {
  return make("p", { class: "difference" }, inWords(model, other, found));
}

/** Says in one sentence what is known of the difference in click-through. */
function inWords(model, other, found) {
  if (!found?.anytime) return `It is too early to compare ${model} with ${other}.`;
  const { low, high } = found.anytime;
  const side = found.value < 0 ? "below" : "above";
  const range = `anytime-valid range ${points(low)} to ${points(high)}`;
  const verdict =
    low > 0
      ? `so ${model} gets more clicks`
      : high < 0
        ? `so ${other} gets more clicks`
        : "so neither is known to get more clicks yet";
  return (
    `Click-through of ${model} is ${points(Math.abs(found.value))} percentage points ${side}` +
    ` that of ${other} (${range}), ${verdict}.`
  );
}

/** 0.0042 → "0.42", in percentage points. */
const points = (share) =>
  (share * 100).toFixed(share !== 0 && Math.abs(share) < 0.001 ? 3 : 2).replace("-", "−");

/** The end of a figure's scale, which starts at 0 and is common to all models. */
const scaleOf = (intervals, mark = 0) =>
  Math.max(mark, ...intervals.filter(Boolean).map(({ high }) => high)) || 1;

function drawTable(alias, models, scales) {
  const caption = alias === null ? "Requested by their own names" : `Requested as ${alias}`;
  const counts = ["Shown", "Clicks", "Answers with feedback"];
  return make(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": caption },
    make(
      "table",
      {},
      make("caption", {}, caption),
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          ...["Model", ...FIGURES.map(({ title }) => title)].map((text) =>
            make("th", { scope: "col" }, text),
          ),
          ...counts.map((text) => make("th", { scope: "col", class: "number" }, text)),
        ),
      ),
      make("tbody", {}, ...models.map((one) => drawRow(one, scales))),
    ),
  );
}

function drawRow(one, scales) {
  const number = (...text) => make("td", { class: "number" }, ...text);
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, one.model),
    ...FIGURES.map((figure, n) =>
      make("td", {}, ...drawFigure(one[figure.field], figure, scales[n])),
    ),
    number(count(one.impressions)),
    number(count(one.clicks)),
    number(`${count(one.answers_with_feedback)} of ${count(one.answers)}`),
  );
}

function drawFigure(interval, { format, mark }, scale) {
  if (interval === null) return ["–"];
  const { value, low, high } = interval;
  return [
    make("strong", {}, format(value)),
    " ",
    make("span", { class: "hint" }, `${format(low)} to ${format(high)}`),
    drawInterval(interval, scale, mark),
  ];
}

function drawInterval({ value, low, high }, scale, mark) {
  const at = (share) => 4 + (Math.min(share, scale) / scale) * (WIDTH - 8);
  const line = (x1, x2, kind) =>
    draw("line", { x1, x2, y1: HEIGHT / 2, y2: HEIGHT / 2, class: kind });
  return draw(
    "svg",
    { class: "interval", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" },
    line(at(0), at(scale), "axis"),
    ...(mark ? [draw("line", { x1: at(mark), x2: at(mark), y1: 1, y2: HEIGHT - 1 })] : []),
    line(at(low), at(high), "range"),
    draw("circle", { cx: at(value), cy: HEIGHT / 2, r: 3 }),
  );
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
