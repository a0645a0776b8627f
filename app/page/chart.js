/** A chart of shares with their intervals, and the same figures as a table. */

import { make } from "./dom.js";
import { percent } from "./format.js";
import { t } from "./language.js";
import { draw } from "./svg.js";

const [WIDTH, HEIGHT] = [420, 200];
const [LEFT, RIGHT, TOP, BOTTOM] = [52, 8, 8, 26];
const MOST_LABELS = 8;
const MOST_TIMES = 2.5; // wide intervals of few impressions are cut, or they would hide the values

/**
 * axis: what the labels are. labels: of the places along the axis. series: [{name, points}], with one point for each label:
 * {value, low, high}, or null where there is no data.
 */
export function drawChart(title, axis, labels, series) {
  const names = series.map(({ name }) => name).join(t(", "));
  const named = t("{name}: {text}", { name: title, text: names });
  return make(
    "figure",
    { class: "chart" },
    make("figcaption", {}, title),
    drawPicture(named, labels, series),
    make(
      "details",
      {},
      make("summary", {}, t("As a table"), make("span", { class: "for-readers" }, `: ${title}`)),
      drawTable(named, axis, labels, series),
    ),
  );
}

/** Draws the names of the charts' series with their colours. */
export const drawKey = (names) =>
  make(
    "p",
    { class: "key" },
    ...names.map((name, number) =>
      make(
        "span",
        { class: `series-${number % 4}` },
        make("span", { class: "swatch", "aria-hidden": "true" }),
        name,
      ),
    ),
  );

function drawPicture(named, labels, series) {
  const points = series.flatMap((one) => one.points).filter(Boolean);
  const highest = Math.max(...points.map(({ high }) => high));
  const most = Math.max(...points.map(({ value }) => value)) * MOST_TIMES;
  const top = Math.min(highest, most || highest) || 1;
  const step = (WIDTH - LEFT - RIGHT) / labels.length;
  const x = (place) => LEFT + step * (place + 0.5);
  const y = (share) =>
    HEIGHT - BOTTOM - (Math.min(share, top) / top) * (HEIGHT - TOP - BOTTOM);
  return draw(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": named },
    ...[0, top / 2, top].flatMap((share) => drawLevel(share, y(share))),
    ...drawLabels(labels, x),
    ...series.map((one, number) => {
      const aside = (number - (series.length - 1) / 2) * Math.min(step / (series.length + 1), 9);
      return drawSeries(one.points, number, (place) => x(place) + aside, y);
    }),
  );
}

function drawLevel(share, height) {
  const text = draw("text", { x: LEFT - 6, y: height + 4, "text-anchor": "end" });
  text.textContent = percent(share);
  return [
    draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: height, y2: height, class: "level" }),
    text,
  ];
}

function drawLabels(labels, x) {
  const every = Math.ceil(labels.length / MOST_LABELS);
  return labels.flatMap((label, place) => {
    if (place % every) return [];
    const text = draw("text", { x: x(place), y: HEIGHT - 8, "text-anchor": "middle" });
    text.textContent = label;
    return [text];
  });
}

function drawSeries(points, number, x, y) {
  const known = points.map((point, place) => ({ point, place })).filter(({ point }) => point);
  const path = known.map(({ point, place }) => `${x(place)},${y(point.value)}`).join(" ");
  return draw(
    "g",
    { class: `series-${number % 4}` },
    draw("polyline", { points: path }),
    ...known.map(({ point, place }) =>
      draw("line", { x1: x(place), x2: x(place), y1: y(point.low), y2: y(point.high) }),
    ),
    ...known.map(({ point, place }) => draw("circle", { cx: x(place), cy: y(point.value), r: 3.2 })),
  );
}

function drawTable(named, axis, labels, series) {
  const head = (text, scope) => make("th", { scope }, text);
  const cell = (point) =>
    make(
      "td",
      {},
      point ? t("{value} ({low} to {high})", {
            value: percent(point.value),
            low: percent(point.low),
            high: percent(point.high),
          }) : "–",
    );
  return make(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": named },
    make(
      "table",
      {},
      make(
        "thead",
        {},
        make("tr", {}, head(axis, "col"), ...series.map(({ name }) => head(name, "col"))),
      ),
      make(
        "tbody",
        {},
        ...labels.map((label, place) =>
          make(
            "tr",
            {},
            head(label, "row"),
            ...series.map(({ points }) => cell(points[place])),
          ),
        ),
      ),
    ),
  );
}
