/** Reports what was clicked: as feedback on an answer, and as an event for live figures. */

import { post } from "./api.js";
import { byId } from "./dom.js";
import { clearNotice, showError } from "./notice.js";

/** Returns whether the service has taken it. */
export async function giveFeedback(answer, index, clicked) {
  try {
    clearNotice(byId("notice"));
    await post("feedback", { id: answer.id, index, clicked });
  } catch (error) {
    showError(byId("notice"), error);
    return false;
  }
  if (clicked) await sendClick(answer, index);
  return true;
}

/**
 * Live figures learn of a click from an event, whose id makes it count once. They count it once too
 * where the service remembers its answers and so has learned of the click from the feedback.
 */
async function sendClick(answer, index) {
  const story = answer.results.find((one) => one.index === index).id;
  const id = `${answer.id}-${index}`;
  try {
    await post("events", { events: [{ type: "click", id, story, impression_id: answer.id }] });
  } catch (error) {
    showError(byId("notice"), error, { scope: "events" });
  }
}
