/** The experiments view: it compares models' outcomes and changes what an admin key may change. */

import { ApiError, get, post, put } from "./api.js";
import { drawAliases, drawChange, drawWeights, readWeights } from "./aliases.js";
import { confirmChange } from "./confirm.js";
import { announce, byId, isBusy, make, setBusy } from "./dom.js";
import { EXAMPLE } from "./example_outcomes.js";
import { installKey } from "./key.js";
import { t } from "./language.js";
import { clearNotice, showError } from "./notice.js";
import { drawOutcomes } from "./outcomes.js";

const ADMIN = { scope: "admin" };
const STATUS = { serving: t("serving"), loading: t("loading"), failed: t("failed") };
const served = { models: [], aliases: [] };

/** Loads the whole view; also called after a change and after the key has changed. */
async function load() {
  try {
    const [{ data }, { adapters }, { aliases }] = await Promise.all([
      get("v1/models"),
      get("adapters"),
      get("aliases"),
    ]);
    await loadOutcomes();
    const names = new Set(aliases.map(({ alias }) => alias));
    served.aliases = aliases;
    served.models = data.map(({ id }) => id).filter((id) => !names.has(id));
    byId("models").replaceChildren(drawModels(served.models, adapters));
    byId("aliases").replaceChildren(...drawAliases(aliases, edit));
    byId("alias-names").replaceChildren(
      ...[...names].map((name) => make("option", { value: name })),
    );
    drawWeights(served.models, weightsOf(byId("alias").value));
    clearNotice(byId("notice"));
    byId("view").hidden = false;
  } catch (error) {
    byId("view").hidden = true;
    showError(byId("notice"), error, { ...ADMIN, retry: load });
  }
  byId("loading").hidden = true;
}

async function loadOutcomes() {
  const days = byId("days").value;
  const isExample = byId("example").getAttribute("aria-pressed") === "true";
  const { models, differences } = isExample
    ? EXAMPLE
    : await get(`experiments${days ? `?days=${days}` : ""}`);
  byId("example-note").hidden = !isExample;
  byId("figures").replaceChildren(...drawOutcomes(models, differences));
}

/** Shows invented outcomes in place of the service's, or these again. */
async function toggleExample() {
  const isExample = byId("example").getAttribute("aria-pressed") !== "true";
  byId("example").setAttribute("aria-pressed", String(isExample));
  byId("example").textContent = isExample ? t("Remove example data") : t("Load example data");
  await showOutcomes();
  announce(isExample ? t("Example data is shown.") : t("Example data is removed."));
}

const showOutcomes = () =>
  loadOutcomes().catch((error) => showError(byId("notice"), error, ADMIN));

const weightsOf = (alias) => served.aliases.find((one) => one.alias === alias)?.weights ?? {};

function drawModels(models, adapters) {
  const known = new Map(adapters.map((adapter) => [adapter.name, adapter]));
  const rows = [
    ...models
      .filter((name) => !known.has(name))
      .map((name) => [name, "–", STATUS.serving, t("base model")]),
    ...adapters.map((one) => [one.name, one.version, one.error ?? STATUS[one.status], one.source]),
  ];
  return make(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": t("List of models") },
    make(
      "table",
      {},
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          ...[t("Name"), t("Version"), t("Status"), t("Source")].map((text) =>
            make("th", { scope: "col" }, text),
          ),
        ),
      ),
      make(
        "tbody",
        {},
        ...rows.map(([name, ...rest]) =>
          make(
            "tr",
            {},
            make("th", { scope: "row" }, name),
            ...rest.map((text) => make("td", {}, text)),
          ),
        ),
      ),
    ),
  );
}

function edit(alias) {
  byId("alias").value = alias;
  drawWeights(served.models, weightsOf(alias));
  byId("weights").querySelector("input").focus();
}

async function setSplit(event) {
  event.preventDefault();
  const [alias, weights] = [byId("alias").value.trim(), readWeights()];
  const before = weightsOf(alias);
  clearNotice(byId("split-notice"));
  if (!Object.keys(weights).length) {
    const message = t("Give at least one model a weight above 0.");
    return showError(byId("split-notice"), new ApiError(422, { message, param: "weights" }));
  }
  const isNew = !Object.keys(before).length;
  const agreed = await confirmChange(
    isNew ? t("Create {alias}?", { alias }) : t("Change {alias}?", { alias }),
    [
      drawChange(before, weights),
      make(
        "p",
        { class: "hint" },
        t(
          "The change applies from the next request on; requests in progress finish as they" +
            " started. A reader with an id keeps the same model as far as the shares allow.",
        ),
      ),
    ],
    isNew ? t("Create") : t("Change"),
  );
  if (agreed)
    await change(
      byId("split-notice"),
      () => put(`aliases/${encodeURIComponent(alias)}`, { weights }),
      isNew ? t("{alias} is created.", { alias }) : t("{alias} is changed.", { alias }),
    );
}

async function loadAdapter(event) {
  event.preventDefault();
  const [name, path] = [byId("name").value.trim(), byId("path").value.trim()];
  clearNotice(byId("load-notice"));
  const isThere = served.models.includes(name);
  const agreed = await confirmChange(
    t("Load {name}?", { name }),
    [
      make(
        "p",
        {},
        t("The service checks the folder “{path}” and verifies that the adapter changes a score.", {
          path,
        }),
      ),
      make(
        "p",
        {},
        isThere
          ? t(
              "New requests for {name} get this version once it is loaded; those in progress" +
                " finish with the old one.",
              { name },
            )
          : t("No reader gets this adapter until a request or an alias names it."),
      ),
    ],
    t("Load"),
  );
  if (agreed)
    await change(
      byId("load-notice"),
      () => post("adapters", { name, path }),
      t("{name} is served.", { name }),
    );
}

/** Sends a change, reports the outcome, and reloads the view. */
async function change(notice, send, done) {
  const button = byId("load-button");
  if (isBusy(button)) return;
  clearNotice(notice);
  setBusy(button, true, t("Working…"));
  try {
    await send();
    await load();
    announce(done);
    notice.replaceChildren(make("p", { class: "hint" }, `✓ ${done}`));
  } catch (error) {
    showError(notice, error, ADMIN);
  } finally {
    setBusy(button, false, t("Load"));
  }
}

byId("split").addEventListener("submit", setSplit);
byId("load").addEventListener("submit", loadAdapter);
byId("alias").addEventListener("change", () =>
  drawWeights(served.models, weightsOf(byId("alias").value)),
);
byId("days").addEventListener("change", showOutcomes);
byId("example").addEventListener("click", toggleExample);
installKey(load);
load();
