/** One's own front page, pasted: the text of an RSS or Atom feed, or a CSV, becomes lines. */

import { count } from "./format.js";
import { t } from "./language.js";
import { formatStory } from "./story.js";

const MOST = 1000; // the service's own limit
const TITLES = ["title", "headline"];
const CATEGORIES = ["category", "section", "topic"];
const LONGEST_CATEGORY = 40; // as parseStory reads it

/** take: (lines, text) → the stories of a feed or table, and what to say. fail: (text) → says why
 * there are none. A plain list is pasted as the browser does it. */
export function installPaste(field, take, fail) {
  field.addEventListener("paste", (event) => {
    try {
      const found = readPasted(event.clipboardData.getData("text"));
      if (found === null) return;
      event.preventDefault();
      take(found.stories, inWords(found));
    } catch (error) {
      event.preventDefault();
      fail(error.message);
    }
  });
}

function inWords({ kind, stories, all }) {
  const values = { most: count(MOST), count: count(all), kind };
  if (all > MOST) return t("The first {most} of {count} stories read from the {kind}.", values);
  if (stories.length === 1) return t("1 story read from the {kind}.", values);
  return t("{count} stories read from the {kind}.", values);
}

/**
 * Returns {kind, stories: lines, all: how many there were}, or null for what is only a list of
 * titles. Throws Error, whose message is for users, for a feed or table that can't be read.
 */
export function readPasted(text) {
  const trimmed = text.trim();
  const found = trimmed.startsWith("<") ? readFeed(trimmed) : readTable(trimmed);
  if (found === null) return null;
  if (!found.stories.length) {
    throw new Error(t("The {kind} holds no story with a title.", { kind: found.kind }));
  }
  return {
    kind: found.kind,
    stories: found.stories.slice(0, MOST).map(toLine),
    all: found.stories.length,
  };
}

/** A bar would end the category, and a line break the story. */
function toLine({ title, category }) {
  const [plain, group] = [title, category ?? ""].map((text) => text.replaceAll(/\s+/g, " ").trim());
  const kept = group.replaceAll("|", "/").slice(0, LONGEST_CATEGORY).trim();
  return formatStory({ title: kept ? plain : plain.replaceAll("|", "/"), category: kept });
}

const hasTitle = ({ title }) => title.trim() !== "";

/** Null for markup that is no feed, which is then ranked as the lines that it has. */
function readFeed(text) {
  if (!/<(rss|feed|rdf:RDF)[\s>]/.test(text)) return null;
  const feed = new DOMParser().parseFromString(text, "application/xml");
  if (feed.querySelector("parsererror")) {
    throw new Error(
      t("This looks like a feed but is not well-formed XML. Is the text complete?"),
    );
  }
  const items = [...feed.getElementsByTagName("*")].filter(({ localName }) =>
    ["item", "entry"].includes(localName),
  );
  const child = (item, name) => [...item.children].find(({ localName }) => localName === name);
  const stories = items.map((item) => {
    const category = child(item, "category");
    return {
      title: child(item, "title")?.textContent ?? "",
      category: category?.getAttribute("term") ?? category?.textContent,
    };
  });
  return { kind: t("feed"), stories: stories.filter(hasTitle) };
}

/** Null unless the first line names a column of titles and more follow. */
function readTable(text) {
  const first = text.split("\n", 1)[0].trimEnd();
  const separator = [",", ";", "\t"].find((one) => columnsOf(first, one).title >= 0);
  if (separator === undefined || !text.includes("\n")) return null;
  const { title, category } = columnsOf(first, separator);
  const stories = readRows(text, separator)
    .slice(1)
    .map((row) => ({ title: row[title] ?? "", category: row[category] }));
  return { kind: t("table"), stories: stories.filter(hasTitle) };
}

/** The places of the columns, -1 for one that is not there. A lone column is only a list. */
function columnsOf(line, separator) {
  const [names = []] = readRows(line, separator);
  const known = names.map((name) => name.replace("\ufeff", "").trim().toLowerCase());
  const place = (wanted) => known.findIndex((name) => wanted.includes(name));
  return { title: known.length > 1 ? place(TITLES) : -1, category: place(CATEGORIES) };
}

/** RFC 4180: quoted fields may hold separators, line breaks and doubled quotes. */
function readRows(text, separator) {
  const rows = [[]];
  const plain = `[^"${separator}\\r\\n][^${separator}\\r\\n]*`;
  const field = new RegExp(`("(?:[^"]|"")*"|${plain}|)(${separator}|\\r?\\n|$)`, "y");
  while (field.lastIndex < text.length) {
    const found = field.exec(text);
    if (!found) {
      const row = rows.length;
      throw new Error(t("Row {row} of the table has a stray or open quote.", { row }));
    }
    const [, raw, end] = found;
    rows.at(-1).push(raw.startsWith('"') ? raw.slice(1, -1).replaceAll('""', '"') : raw);
    if (end.includes("\n")) rows.push([]);
  }
  return rows.filter((row) => row.length);
}
