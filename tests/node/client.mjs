// The official Node client against a running server: client.mjs BASE_URL
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];

const whole = await client.chat.completions.create({
  model: "any", messages, max_tokens: 8, temperature: 0, cache_prompt: false,
});
assert.equal(whole.choices[0].message.role, "assistant");

let text = "";
let finish = null;
let usage = null;
const stream = await client.chat.completions.create({
  model: "any", messages, max_tokens: 8, temperature: 0, cache_prompt: false, stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  finish = chunk.choices[0]?.finish_reason ?? finish;
  usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].message.content);
assert.equal(finish, whole.choices[0].finish_reason);
assert.deepEqual(usage, whole.usage);

const scored = await client.chat.completions.create({
  model: "any", messages, max_tokens: 2, temperature: 0, logprobs: true, top_logprobs: 2,
});
assert.equal(scored.choices[0].logprobs.content[0].top_logprobs.length, 2);

const runner = client.chat.completions.stream({ model: "any", messages, max_tokens: 4, temperature: 0 });
assert.equal(typeof (await runner.finalContent()), "string");

await assert.rejects(client.chat.completions.create({ model: "any", messages, top_p: 7 }),
  (error) => error instanceof OpenAI.BadRequestError && error.param === "top_p");
await assert.rejects(client.models.retrieve("missing"), OpenAI.NotFoundError);
const models = await client.models.list();
assert.equal(models.data.length, 1);
console.log("ok");
