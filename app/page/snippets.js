/** The request as commands that can be run as they are; a key is only ever a placeholder. */

/** JSON with one story a line; texts, lists and objects are written alike in JSON and in Python. */
function layOut(body, indent) {
  const flat = (value) => JSON.stringify(value, null, 1).replaceAll(/\n */g, " "); // none in texts
  const stories = (list) => list.map((one) => `\n${indent}    ${flat(one)}`).join(",");
  const lines = Object.entries(body).map(
    ([name, value]) =>
      `\n${indent}  ${JSON.stringify(name)}: ` +
      (Array.isArray(value) ? `[${stories(value)}\n${indent}  ]` : JSON.stringify(value)),
  );
  return `{${lines.join(",")}\n${indent}}`;
}

/** For a POSIX shell. withKey: the service wants one, taken from the variable KEY. */
export function toCurl(url, body, withKey) {
  const data = layOut(body, "").replaceAll("'", "'\\''");
  return [
    `curl -sS '${url}'`,
    ...(withKey ? ['-H "Authorization: Bearer $KEY"'] : []),
    "-H 'Content-Type: application/json'",
    `-d '${data}'`,
  ].join(" \\\n  ");
}

export function toPython(url, body, withKey) {
  return [
    ...(withKey ? ["import os", ""] : []),
    "import httpx",
    "",
    "response = httpx.post(",
    `    ${JSON.stringify(url)},`,
    ...(withKey ? ['    headers={"Authorization": "Bearer " + os.environ["KEY"]},'] : []),
    `    json=${layOut(body, "    ")},`,
    "    timeout=60,",
    ")",
    "response.raise_for_status()",
    'for story in response.json()["results"]:',
    '    print(story["rank"], story["index"], story["probability"])',
    "",
  ].join("\n");
}
