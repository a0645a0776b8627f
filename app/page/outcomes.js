/** What feedback says about each model: where each comparison stands, tables and charts. */

import { drawChart, drawKey } from "./chart.js";
import { make } from "./dom.js";
import { t } from "./language.js";
import { drawTable, scalesOf } from "./outcome_table.js";
import { drawVerdict } from "./verdict.js";

/**
 * Draws one section per alias, with how its models differ, and last the models without an alias.
 * Both arguments are as in GET /experiments.
 */
export function drawOutcomes(models, differences) {
  if (!models.length) {
    return [
      make(
        "p",
        { class: "empty" },
        t(
          "No answers are kept yet. Rank some stories, then mark what was clicked; or look at the" +
            " example data.",
        ),
      ),
    ];
  }
  const scales = scalesOf(models);
  const aliases = [...new Set(models.map((one) => one.alias))].sort(
    (a, b) => (a === null) - (b === null),
  );
  return aliases.flatMap((alias) => {
    const own = models.filter((one) => one.alias === alias);
    return [
      ...differences.filter((one) => one.alias === alias).map(drawVerdict),
      drawTable(alias, own, scales),
      drawCharts(own.filter(({ impressions }) => impressions > 0)),
    ].filter(Boolean);
  });
}

/** Returns null without any impressions. */
function drawCharts(models) {
  if (!models.length) return null;
  const places = models[0].by_position.map(({ position }) => position);
  const shown = places.filter((_, n) => models.some((one) => one.by_position[n].click_through));
  const days = [...new Set(models.flatMap((one) => one.by_day.map(({ day }) => day)))].sort();
  const charts = [
    [t("Click-through by position"), t("Position"), shown, "by_position", "position", (it) => it],
    [t("Click-through by day (UTC)"), t("Day"), days, "by_day", "day", (day) => day.slice(5)],
  ].filter(([, , labels]) => labels.length);
  return make(
    "div",
    {},
    drawKey(models.map(({ model }) => model)),
    make(
      "div",
      { class: "charts" },
      ...charts.map(([title, axis, labels, field, name, short]) =>
        drawChart(title, axis, labels.map(short), seriesOf(models, labels, field, name)),
      ),
    ),
  );
}

/** One point for each label, null where a model has none. */
const seriesOf = (models, labels, field, name) =>
  models.map((one) => ({
    name: one.model,
    points: labels.map(
      (label) => one[field].find((found) => found[name] === label)?.click_through ?? null,
    ),
  }));
