/** What is being waited for, and for how long, shown while a ranking is made. */

import { make } from "./dom.js";

const AFTER_MS = 600; // a short one would only flicker
const EVERY_MS = 1000;

/** place: an empty element. Returns {say, end}: say(text, done, all) tells what goes on now. */
export function startProgress(place) {
  const started = Date.now();
  const bar = make("progress", { "aria-labelledby": "progress-text" });
  const line = make("span", { id: "progress-text" });
  let said = "";

  function draw() {
    const seconds = Math.floor((Date.now() - started) / 1000);
    line.textContent = seconds > 0 ? `${said} · ${seconds} s` : said;
    if (!place.children.length) place.replaceChildren(bar, line);
  }

  const timers = [setTimeout(draw, AFTER_MS), setInterval(draw, EVERY_MS)];
  return {
    /** Of a single request nobody knows how far it is, so its bar only moves. */
    say(text, done, all) {
      said = text;
      if (all > 1) {
        bar.max = all;
        bar.value = done;
      }
    },
    end() {
      timers.forEach(clearTimeout);
      place.replaceChildren();
    },
  };
}
