// The AI SDK of JavaScript against a service, whose model has a chat template: aisdk.mjs MODULES ADDRESS TOKEN
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [modules, address, token] = process.argv.slice(2);
const require = createRequire(modules + '/');
const { createOpenAICompatible } = require('@ai-sdk/openai-compatible');
const { APICallError, embed, embedMany, generateText, streamText } = require('ai');
const provider = (apiKey) => createOpenAICompatible({ name: 'infini', baseURL: `http://${address}/v1`, apiKey, includeUsage: true });
const model = provider(token)('any');
const asked = { model, system: 'Be brief.', prompt: 'Who is Lily?', temperature: 0, maxOutputTokens: 30, maxRetries: 0 };

const whole = await generateText(asked);
assert.ok(whole.text && ['length', 'stop'].includes(whole.finishReason), whole.finishReason);
assert.equal(whole.usage.totalTokens, whole.usage.inputTokens + whole.usage.outputTokens);
assert.ok(whole.usage.outputTokens > 10);

const stream = streamText(asked);
let text = '';
for await (const piece of stream.textStream) text += piece;
assert.equal(text, whole.text);
assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
assert.equal(await stream.finishReason, whole.finishReason);

const stop = text.slice(5, 9);
const cut = await generateText({ ...asked, stopSequences: [stop] });
assert.equal(cut.text, text.slice(0, text.indexOf(stop)));
assert.equal(cut.finishReason, 'stop');

const remembered = { ...asked, headers: { 'Infini-Memory': 'of-the-sdk' } }; // which reads only what is new
await generateText(remembered);
assert.ok((await generateText({ ...remembered, system: undefined, prompt: 'And Tom?' })).usage.inputTokens < whole.usage.inputTokens);

const controller = new AbortController(); // a stream that has no end of itself is cancelled, and then takes no more
const endless = streamText({ ...asked, maxOutputTokens: 1 << 30, abortSignal: controller.signal,
  providerOptions: { infini: { logit_bias: { 2: -100 } } } });
let pieces = 0;
for await (const _ of endless.textStream) if (++pieces === 5) controller.abort();
assert.ok(pieces < 1000);
const metric = async () => Number((await (await fetch(`http://${address}/metrics`, { headers: { Authorization: `Bearer ${token}` } })).text())
  .match(/^infini_active_requests (\d+)$/m)[1]);
for (let tries = 0; await metric() > 0; ++tries) {
  assert.ok(tries < 60, 'the request goes on without its client');
  await new Promise((later) => setTimeout(later, 50));
}

const embedder = provider(token).textEmbeddingModel('any');
const { embeddings } = await embedMany({ model: embedder, values: ['Lily has a dog.', 'The sun is hot.'] });
const { embedding, usage } = await embed({ model: embedder, value: 'Lily has a dog.' });
assert.ok(embeddings.length === 2 && embedding.length > 10 && usage.tokens > 3);
assert.ok(embedding.every((value, i) => Math.abs(value - embeddings[0][i]) < 1e-5));

const fails = (status, request) => assert.rejects(generateText(request),
  (error) => APICallError.isInstance(error) && error.statusCode === status && !error.isRetryable && error.message.length > 5);
await fails(400, { ...asked, temperature: -1 });
await fails(401, { ...asked, model: provider('wrong')('any') });
await fails(400, { ...asked, headers: { 'Infini-Memory': 'no such/name' } });
