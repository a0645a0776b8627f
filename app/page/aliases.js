/** The list of aliases with their shares, and the form that changes one. */

import { byId, make } from "./dom.js";
import { percent } from "./format.js";
import { t } from "./language.js";

/** Converts model → weight to model → share, from 0 to 1. */
export function toShares(weights) {
  const sum = Object.values(weights).reduce((a, b) => a + b, 0);
  return Object.fromEntries(
    Object.entries(weights).map(([model, weight]) => [model, sum > 0 ? weight / sum : 0]),
  );
}

/** aliases: as in GET /aliases. onEdit: (alias) → puts that alias into the form. */
export function drawAliases(aliases, onEdit) {
  if (!aliases.length) return [make("p", { class: "hint" }, t("There are no aliases yet."))];
  return aliases.map(({ alias, weights }) => {
    const shares = Object.entries(toShares(weights));
    const bar = make(
      "div",
      { class: "shares", "aria-hidden": "true" },
      ...shares.map(([, share]) => {
        const part = make("span");
        part.style.width = `${share * 100}%`;
        return part;
      }),
    );
    return make(
      "div",
      { class: "alias" },
      make(
        "div",
        { class: "title-row" },
        make("h3", {}, alias),
        make(
          "button",
          {
            type: "button",
            class: "quiet",
            "aria-label": t("Change {alias}", { alias }),
            onclick: () => onEdit(alias),
          },
          t("Change"),
        ),
      ),
      bar,
      make("p", { class: "hint" }, inWords(Object.fromEntries(shares))),
    );
  });
}

const inWords = (shares) =>
  Object.entries(shares)
    .map(([model, share]) => `${model} ${percent(share)}`)
    .join(t(", "));

/** Draws one number field per model, each with the share that results. */
export function drawWeights(models, weights) {
  byId("weights").replaceChildren(
    ...models.map((model, number) => {
      const id = `weight-${number}`;
      return make(
        "div",
        { class: "weight" },
        make("label", { for: id }, model),
        make("input", {
          id,
          type: "number",
          min: "0",
          max: "1000000000",
          step: "any",
          inputmode: "decimal",
          value: weights[model] ?? 0,
          "data-model": model,
          "data-param": `weights.${model}`,
          oninput: showShares,
        }),
        make("output", { class: "hint number", for: id }),
      );
    }),
  );
  showShares();
}

/** Returns model → weight as typed, only those above 0. */
export function readWeights() {
  const inputs = [...byId("weights").querySelectorAll("input")];
  return Object.fromEntries(
    inputs.map((input) => [input.dataset.model, Number(input.value)]).filter(([, w]) => w > 0),
  );
}

function showShares() {
  const shares = toShares(readWeights());
  for (const row of byId("weights").children) {
    const share = shares[row.querySelector("input").dataset.model] ?? 0;
    row.querySelector("output").textContent = percent(share);
  }
}

/** Draws a table of the shares before and after a change. before: {} for a new alias. */
export function drawChange(before, after) {
  const [now, then] = [toShares(before), toShares(after)];
  const isNew = !Object.keys(before).length;
  const models = [...new Set([...Object.keys(now), ...Object.keys(then)])];
  const head = [t("Model"), t("Now"), t("New")];
  return make(
    "table",
    {},
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        ...head.map((text, n) => make("th", { scope: "col", class: n > 0 && "number" }, text)),
      ),
    ),
    make(
      "tbody",
      {},
      ...models.map((model) =>
        make(
          "tr",
          {},
          make("th", { scope: "row" }, model),
          make("td", { class: "number" }, isNew ? "–" : percent(now[model] ?? 0)),
          make("td", { class: "number" }, percent(then[model] ?? 0)),
        ),
      ),
    ),
  );
}
