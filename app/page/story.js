/** Conversion of stories between lines of text and the API's form. */

/** "sports | Cup final" → {title, category}; without a category before a bar, only a title. */
export function parseStory(line) {
  const found = /^\s*([^|]{1,40}?)\s*\|\s*(\S.*?)\s*$/.exec(line);
  return found ? { category: found[1], title: found[2] } : { title: line.trim() };
}

export const formatStory = ({ title, category }) => (category ? `${category} | ${title}` : title);

/** The story as the API expects it: a plain string if only the title is known. */
export const toWire = ({ title, category }) => (category ? { title, category } : title);

/** Text with one story per line → [{title, category, line}], line from 1, without empty lines. */
export function parseStories(text) {
  return text
    .split(/\r?\n/)
    .map((line, index) => ({ ...parseStory(line), line: index + 1 }))
    .filter((story) => story.title !== "");
}
