/** The request as commands that can be run as they are. A key appears only as a placeholder. */

const asPython = (value) => (value === true ? "True" : JSON.stringify(value));

/** One story per line. write: of what is no list; JSON's strings and objects are Python's too. */
function layOut(body, indent, write = JSON.stringify) {
  const flat = (value) => JSON.stringify(value, null, 1).replaceAll(/\n */g, " "); // strings hold none
  const stories = (list) => list.map((one) => `\n${indent}    ${flat(one)}`).join(",");
  const lines = Object.entries(body).map(
    ([name, value]) =>
      `\n${indent}  ${JSON.stringify(name)}: ` +
      (Array.isArray(value) ? `[${stories(value)}\n${indent}  ]` : write(value)),
  );
  return `{${lines.join(",")}\n${indent}}`;
}

/** A command for a POSIX shell. withKey: whether to send the key in the variable KEY. */
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
    `    json=${layOut(body, "    ", asPython)},`,
    "    timeout=60,",
    ")",
    "response.raise_for_status()",
    'for story in response.json()["results"]:',
    '    print(story["rank"], story["index"], story["probability"])',
    "",
  ].join("\n");
}
