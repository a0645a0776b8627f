/** A story in a line of text, and as the API wants it. */

/** "sports | Cup final" → {title, category}; without a bar, or with nothing before it, a title. */
export function parseStory(line) {
  const found = /^\s*([^|]{1,40}?)\s*\|\s*(\S.*?)\s*$/.exec(line);
  return found ? { category: found[1], title: found[2] } : { title: line.trim() };
}

export const formatStory = ({ title, category }) => (category ? `${category} | ${title}` : title);

/** Where only the title is known, it alone is sent. */
export const toWire = ({ title, category }) => (category ? { title, category } : title);

/** Text of one story a line → [{title, category, line}], line from 1; empty lines are left out. */
export function parseStories(text) {
  return text
    .split(/\r?\n/)
    .map((line, index) => ({ ...parseStory(line), line: index + 1 }))
    .filter((story) => story.title !== "");
}
