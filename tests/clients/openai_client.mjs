// OpenAI's own client for Node. `node openai_client.mjs URL`; tests/clients/__main__.py runs a copy
// that lies beside its node_modules, where Node looks for packages.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const model = "news-smollm2";
const question = "A reader clicked two stories about football. Will they click one about the cup final?";
const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const asked = { model, messages: [{ role: "user", content: question }], temperature: 0 };

const answer = await client.chat.completions.create({ ...asked, max_tokens: 10 });
const [choice] = answer.choices;
assert.equal(answer.model, model);
assert.equal(choice.message.role, "assistant");
assert.ok(choice.message.content);
assert.ok(["stop", "length"].includes(choice.finish_reason));
assert.ok(answer.usage.completion_tokens > 0 && answer.usage.completion_tokens <= 10);

let text = "";
let reason = null;
for await (const chunk of await client.chat.completions.create({ ...asked, max_tokens: 10, stream: true })) {
    text += chunk.choices[0].delta.content ?? "";
    reason = chunk.choices[0].finish_reason ?? reason;
}
assert.equal(text, choice.message.content);
assert.equal(reason, choice.finish_reason);

const done = await client.completions.create({ model, prompt: "The news today:", max_tokens: 5 });
assert.equal(done.object, "text_completion");
assert.ok(done.choices[0].text);
assert.equal(done.choices[0].finish_reason, "length");

const Verdict = z.object({
    click: z.boolean(),
    section: z.enum(["sports", "finance", "weather"]),
    stars: z.literal([1, 2, 3]),
});
const parsed = await client.chat.completions.parse({
    ...asked,
    max_tokens: 60,
    response_format: zodResponseFormat(Verdict, "verdict"),
});
assert.equal(parsed.choices[0].finish_reason, "stop");
Verdict.parse(parsed.choices[0].message.parsed);
