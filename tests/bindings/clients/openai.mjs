// OpenAI's own client for JavaScript against a service, whose model has a chat template: openai.mjs MODULES ADDRESS TOKEN
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [modules, address, token] = process.argv.slice(2);
const { default: OpenAI } = createRequire(modules + '/')('openai');
const client = new OpenAI({ baseURL: `http://${address}/v1`, apiKey: token, maxRetries: 0 });

const [{ id: model }] = (await client.models.list()).data;
const messages = [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: [{ type: 'text', text: 'Who is Lily?' }] }];
const asked = { model, messages, temperature: 0, max_tokens: 30 };
const whole = await client.chat.completions.create(asked);
const [{ message, finish_reason }] = whole.choices;
assert.equal(message.role, 'assistant');
assert.ok(message.content && ['length', 'stop'].includes(finish_reason));
assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);

let text = '', usage;
for await (const part of await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } })) {
  text += part.choices[0]?.delta.content ?? '';
  usage = part.usage ?? usage;
}
assert.equal(text, message.content);
assert.deepEqual(usage, whole.usage);

const final = await client.chat.completions.stream(asked).finalChatCompletion(); // which holds each event to its rules
assert.equal(final.choices[0].message.content, text);

const stop = text.slice(5, 9);
const cut = await client.chat.completions.create({ ...asked, stop });
assert.equal(cut.choices[0].message.content, text.slice(0, text.indexOf(stop)));
assert.equal(cut.choices[0].finish_reason, 'stop');

const remembered = { ...asked, memory: 'of the client'.replaceAll(' ', '-') };
await client.chat.completions.create(remembered);
const next = [...messages, message, { role: 'user', content: 'And Tom?' }];
const again = await client.chat.completions.create({ ...remembered, messages: next });
assert.ok(again.usage.prompt_tokens < whole.usage.prompt_tokens, 'what was read before is read again');

const legacy = await client.completions.create({ model, prompt: 'One day', max_tokens: 5 });
assert.ok(legacy.choices[0].text);

const embeddings = await client.embeddings.create({ model, input: ['Lily has a dog.', 'The sun is hot.'] }); // asks for base64
assert.equal(embeddings.data.length, 2);
assert.ok(embeddings.data[0].embedding.length > 10 && embeddings.data[0].embedding.every(Number.isFinite));

const controller = new AbortController();
const endless = await client.chat.completions.create(
  { ...asked, stream: true, max_tokens: 1 << 30, logit_bias: { 2: -100 } }, { signal: controller.signal });
let pieces = 0;
for await (const _ of endless) if (++pieces === 5) controller.abort();
assert.ok(pieces < 1000);

await assert.rejects(client.chat.completions.create({ ...asked, n: 2 }), (e) => e instanceof OpenAI.BadRequestError && /"n"/.test(e.message));
await assert.rejects(client.chat.completions.create({ ...asked, messages: [] }), OpenAI.BadRequestError);
await assert.rejects(new OpenAI({ baseURL: `http://${address}/v1`, apiKey: 'wrong' }).models.list(), OpenAI.AuthenticationError);
