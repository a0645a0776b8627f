/** A table of the models of one alias: figures with their 95 % intervals, as text and drawn. */

import { make } from "./dom.js";
import { count, percent } from "./format.js";
import { t } from "./language.js";
import { draw } from "./svg.js";

const WIDTH = 120;
const HEIGHT = 12;
const FIGURES = [
  { field: "click_through", title: t("Click-through"), format: percent },
  { field: "auc", title: "AUC", format: (value) => value.toFixed(3), mark: 0.5 },
  {
    field: "clicks_per_expected",
    title: t("Clicks per expected"),
    format: (v) => v.toFixed(2),
    mark: 1,
  },
];

/** The scales of all figures, which are common to all models. models: as in GET /experiments. */
export const scalesOf = (models) =>
  FIGURES.map(({ field, mark }) =>
    scaleOf(
      models.map((one) => one[field]),
      mark,
    ),
  );

/** The end of a figure's scale, which starts at 0 and is common to all models. */
const scaleOf = (intervals, mark = 0) =>
  Math.max(mark, ...intervals.filter(Boolean).map(({ high }) => high)) || 1;

export function drawTable(alias, models, scales) {
  const caption =
    alias === null
      ? t("Requested by their own names")
      : t("Requested as {alias}", { alias });
  const counts = [t("Shown"), t("Clicks"), t("Answers with feedback")];
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
          ...[t("Model"), ...FIGURES.map(({ title }) => title)].map((text) =>
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
    number(
      t("{some} of {all}", {
        some: count(one.answers_with_feedback),
        all: count(one.answers),
      }),
    ),
  );
}

function drawFigure(interval, { format, mark }, scale) {
  if (interval === null) return ["–"];
  const { value, low, high } = interval;
  return [
    make("strong", {}, format(value)),
    " ",
    make("span", { class: "hint" }, t("{low} to {high}", { low: format(low), high: format(high) })),
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
