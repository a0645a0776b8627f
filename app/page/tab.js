/** What was ranked in this tab, to go back to; forgotten when the tab is closed. */

import { byId, make } from "./dom.js";
import { LANGUAGE, t } from "./language.js";
import { isState } from "./state.js";

const NAME = `frontpage.ranked.${LANGUAGE}`; // what it says of each is text
const MOST = 10;

let entries = read();

/**
 * described: {what, first} of a ranking. state: what the page was set to. onChoose: (state) → sets
 * the page to it. An earlier ranking of the same state makes way.
 */
export function remember(described, state, onChoose) {
  const isSame = (one) => JSON.stringify(one.state) === JSON.stringify(state);
  const entry = { ...described, state, time: Date.now() };
  entries = [entry, ...entries.filter((one) => !isSame(one))].slice(0, MOST);
  try {
    sessionStorage.setItem(NAME, JSON.stringify(entries));
  } catch {
    // too much for the browser: then only until the page is loaded again
  }
  drawTab(onChoose);
}

export function drawTab(onChoose) {
  byId("tab").hidden = !entries.length;
  byId("tab-list").replaceChildren(
    ...entries.map(({ time, what, first, state }) =>
      make(
        "li",
        {},
        make(
          "button",
          { type: "button", class: "quiet", onclick: () => onChoose(state) },
          what,
        ),
        make(
          "span",
          { class: "hint" },
          t("{time} · first: {first}", {
            time: new Date(time).toLocaleTimeString("en-GB"),
            first,
          }),
        ),
      ),
    ),
  );
}

function read() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(NAME) ?? "[]");
    return kept.filter(({ state }) => isState(state)).slice(0, MOST);
  } catch {
    return [];
  }
}
