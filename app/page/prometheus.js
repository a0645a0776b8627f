/** Parsing Prometheus's text format, and computing quantiles of its histograms. */

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES = { "\\n": "\n", '\\"': '"', "\\\\": "\\" };
const NUMBERS = { "+Inf": Infinity, "-Inf": -Infinity, NaN };

const number = (text) => NUMBERS[text] ?? Number(text);

/** names: a Set of the metrics to read. Returns [{name, labels, value}]. */
export function parseMetrics(text, names) {
  const samples = [];
  for (const line of text.split("\n")) {
    const [, name, inside, value] = LINE.exec(line) ?? [];
    if (!names.has(name)) continue;
    const labels = {};
    for (const [, label, raw] of (inside ?? "").matchAll(LABEL)) {
      labels[label] = raw.replaceAll(/\\[n"\\]/g, (escape) => ESCAPES[escape]);
    }
    samples.push({ name, labels, value: number(value) });
  }
  return samples;
}

/** The sum of a metric's samples whose labels fit; null if there are none. */
export function total(samples, name, fits = () => true) {
  const found = samples.filter((sample) => sample.name === name && fits(sample.labels));
  return found.length ? found.reduce((sum, sample) => sum + sample.value, 0) : null;
}

/** A histogram's cumulative buckets, summed over all other labels: a Map of upper bound → count. */
export function buckets(samples, name, fits = () => true) {
  const sums = new Map();
  for (const { labels, value } of samples.filter((s) => s.name === name && fits(s.labels))) {
    const bound = number(labels.le);
    sums.set(bound, (sums.get(bound) ?? 0) + value);
  }
  return sums;
}

/**
 * Like Prometheus's histogram_quantile: it interpolates linearly within a bucket, from 0 in the
 * first. For the last bucket, which is unbounded, it returns the highest finite bound. NaN without
 * observations.
 */
export function quantile(q, sums) {
  const sorted = [...sums].sort(([a], [b]) => a - b);
  if (sorted.length < 2 || sorted.at(-1)[0] !== Infinity || sorted.at(-1)[1] <= 0) return NaN;
  const rank = q * sorted.at(-1)[1];
  const place = sorted.findIndex(([, below]) => below >= rank);
  if (place === sorted.length - 1) return sorted.at(-2)[0];
  const [end, below] = sorted[place];
  if (place === 0 && end <= 0) return end;
  const [start, before] = place > 0 ? sorted[place - 1] : [0, 0];
  return start + (end - start) * ((rank - before) / (below - before));
}
