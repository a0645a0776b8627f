/** The live panel. It polls /metrics and shows the differences over the last minute. */

import { fetchFrom } from "./api.js";
import { byId } from "./dom.js";
import { count, duration, percent } from "./format.js";
import { t } from "./language.js";
import { buckets, parseMetrics, quantile, total } from "./prometheus.js";
import { WORK } from "./work.js";

const EVERY_MS = 3000;
const WINDOW_MS = 60_000;
const SECONDS = "frontpage_request_seconds_bucket";
const NAMES = new Set([
  SECONDS,
  "frontpage_requests_total",
  "frontpage_pending_requests",
  "vllm:num_requests_waiting",
  "vllm:prefix_cache_queries_total",
  "vllm:prefix_cache_hits_total",
]);

let history = [];
let timer = 0;
let isStopped = false;

export function startLive() {
  isStopped = false;
  clearTimeout(timer);
  if (!document.hidden) poll();
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && !isStopped) poll();
});

async function poll() {
  try {
    const text = await (await fetchFrom("metrics")).text();
    keep(readSnapshot(text, Date.now()));
    draw(summarize(history));
  } catch (error) {
    isStopped = error.needsKey === true; // until a key is entered
    say(isStopped ? t("Live figures need a key.") : t("No figures: the service can't be reached."));
  }
  clearTimeout(timer); // another poll may have set it in the meantime
  if (!isStopped && !document.hidden) timer = setTimeout(poll, EVERY_MS);
}

/** Parses one answer of /metrics. The cache figures are null for an engine that has none. */
export function readSnapshot(text, time) {
  const samples = parseMetrics(text, NAMES);
  const isWork = ({ route }) => WORK.has(route);
  return {
    time,
    requests: total(samples, "frontpage_requests_total", isWork) ?? 0,
    seconds: buckets(samples, SECONDS, (labels) => isWork(labels) && labels.status === "200"),
    atWork: total(samples, "frontpage_pending_requests") ?? 0,
    waiting: total(samples, "vllm:num_requests_waiting") ?? 0,
    queries: total(samples, "vllm:prefix_cache_queries_total"),
    hits: total(samples, "vllm:prefix_cache_hits_total"),
  };
}

function keep(snapshot) {
  const last = history.at(-1);
  if (last && snapshot.requests < last.requests) history = []; // the service was restarted
  history.push(snapshot);
  while (snapshot.time - history[0].time > WINDOW_MS) history.shift();
}

/** Computes the differences between the first and the last snapshot. snapshots: oldest first. */
export function summarize(snapshots) {
  const [first, last] = [snapshots[0], snapshots.at(-1)];
  const seconds = new Map(
    [...last.seconds].map(([bound, value]) => [bound, value - (first.seconds.get(bound) ?? 0)]),
  );
  const queries = last.queries === null ? 0 : last.queries - (first.queries ?? 0);
  return {
    requests: last.requests - first.requests,
    sinceStart: last.requests,
    p50: quantile(0.5, seconds),
    p95: quantile(0.95, seconds),
    atWork: last.atWork,
    waiting: last.waiting,
    hitRate: queries > 0 ? (last.hits - (first.hits ?? 0)) / queries : NaN,
  };
}

function draw(figures) {
  byId("live-requests").textContent = count(figures.requests);
  byId("live-total").textContent = t("{count} since the start", {
    count: count(figures.sinceStart),
  });
  byId("live-p50").textContent = duration(figures.p50);
  byId("live-p95").textContent = duration(figures.p95);
  byId("live-work").textContent = count(figures.atWork);
  byId("live-waiting").textContent = t("{count} stories waiting in the engine", {
    count: count(figures.waiting),
  });
  byId("live-cache").textContent = Number.isNaN(figures.hitRate) ? "–" : percent(figures.hitRate);
  say("");
}

function say(text) {
  byId("live-state").textContent = text;
}
