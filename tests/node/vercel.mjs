// The Vercel AI SDK against a running server: vercel.mjs BASE_URL
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, streamText, tool } from "ai";
import { z } from "zod";

const compatible = createOpenAICompatible({
  name: "hearth", baseURL: process.argv[2], apiKey: "none", includeUsage: true, supportsStructuredOutputs: true,
});
const responses = createOpenAI({ baseURL: process.argv[2], apiKey: "none" });
const lamp = z.object({ room: z.enum(["kitchen", "hall"]), on: z.boolean() });
const setLamp = tool({ description: "Switches a lamp.", inputSchema: lamp });

for (const model of [compatible("any"), responses.responses("any")]) {
  const common = { model, prompt: "Light up the hall.", temperature: 0, maxOutputTokens: 300, maxRetries: 0 };

  const whole = await generateText(common);
  assert.equal(typeof whole.text, "string");
  assert.ok(whole.usage.outputTokens >= 1 && whole.usage.outputTokens <= 300);

  const stream = streamText({ ...common, onError: ({ error }) => { throw error; } });
  let text = "";
  for await (const delta of stream.textStream)
    text += delta;
  assert.equal(text, whole.text);
  assert.equal(await stream.finishReason, whole.finishReason);
  assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);

  const { object } = await generateObject({ ...common, schema: lamp });
  lamp.parse(object);

  const called = await generateText({ ...common, tools: { setLamp }, toolChoice: "required" });
  assert.ok(called.toolCalls.length >= 1);
  for (const call of called.toolCalls) {
    assert.equal(call.toolName, "setLamp");
    lamp.parse(call.input);
  }
  await assert.rejects(generateText({ ...common, topP: 7 }), /top_p/);
}
console.log("ok");
