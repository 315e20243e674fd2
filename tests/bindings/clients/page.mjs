// The page of samples/web in Debian's Chromium, as people use it, against a service whose model has a chat template:
// page.mjs MODULES CHROMIUM ADDRESS TOKEN. INFINI_BOOK_BYTES is how long a book it reads, and INFINI_SCREENSHOTS a folder for
// pictures of it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [modules, executablePath, address, token] = process.argv.slice(2);
const { chromium } = createRequire(modules + '/')('playwright-core');
const novel = readFileSync(new URL('../../../samples/texts/wuthering_heights.txt', import.meta.url), 'utf8');
const book = novel.repeat(2).slice(0, Number(process.env.INFINI_BOOK_BYTES ?? 1 << 20)); // of ASCII, nearly
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const context = await browser.newContext({ viewport: { width: 1100, height: 800 }, acceptDownloads: true });
const page = await context.newPage();
page.setDefaultTimeout(30000);
const faults = [];
page.on('pageerror', (error) => faults.push(String(error)));
page.on('console', (message) => message.type() === 'error' && !/status of 4/.test(message.text()) && faults.push(message.text()));
const picture = async (name) => process.env.INFINI_SCREENSHOTS && page.screenshot({ path: `${process.env.INFINI_SCREENSHOTS}/${name}.png` });
const button = (name) => page.getByRole('button', { name, exact: true });
const [log, text, memory, dialog] = [page.getByRole('log'), page.getByLabel('Message'), page.getByLabel('Memory', { exact: true }), page.getByRole('dialog')];
const free = () => button('Send').waitFor();
const facts = async () => {
  const shown = await page.locator('#facts').textContent();
  const bytes = (pattern) => { const found = shown.match(pattern); return found && found[1] * { kB: 1e3, MB: 1e6, GB: 1e9 }[found[2]]; };
  return { tokens: Number(shown.match(/([\d,]+) tokens read/)?.[1].replaceAll(',', '')), speed: Number(shown.match(/([\d,]+) tokens\/s/)?.[1]),
    memory: bytes(/memory ([\d.]+) (.B)/), cache: bytes(/cache of all tokens: ([\d.]+) (.B)/) };
};
const note = (part) => log.locator('.note', { hasText: part }).last().waitFor();
const name = async (what) => { await memory.fill(what); await memory.press('Enter'); };
const fits = async () => assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.body.scrollHeight <= innerHeight));
await page.route('**/v1/chat/completions', (route) => // without </s>, replies do not end by themselves
  route.continue({ postData: JSON.stringify({ ...route.request().postDataJSON(), temperature: 0, max_tokens: 1 << 20, logit_bias: { 2: -100 } }) }));

// The token is asked for until it is one; then the page says what the model is.
await page.goto(`http://${address}/`);
await dialog.getByLabel('The token').fill('wrong');
await page.keyboard.press('Enter');
await page.waitForFunction(() => document.querySelector('#dialog').open && document.querySelector('#answer').value === '');
await picture('token');
await dialog.getByLabel('The token').fill(token);
await page.keyboard.press('Enter');
await page.getByRole('heading', { name: /stories260K .*window 512/ }).waitFor();
await fits();

// A reply comes piece by piece, is announced when it is whole, and ends by Stop or Escape.
await page.evaluate(() => {
  window.lengths = new Set();
  new MutationObserver(() => lengths.add([document.querySelector('#log').ariaBusy, document.querySelector('#log').textContent.length].join()))
    .observe(document.querySelector('#log'), { subtree: true, childList: true, characterData: true });
});
await text.fill('Who is Lily?');
await text.press('Enter');
await page.waitForFunction(() => lengths.size > 10);
assert.equal(await log.getAttribute('aria-busy'), 'true');
assert.equal(await text.inputValue(), '');
await picture('chat');
await button('Stop').click();
await free();
assert.equal(await log.getAttribute('aria-busy'), 'false');
assert.equal(await log.locator('.note').count(), 0);
assert.ok((await log.locator('.assistant').last().textContent()).length > 20);
await text.fill('And Tom?');
await button('Send').click();
await page.waitForFunction(() => document.querySelectorAll('#log .assistant')[1]?.textContent.length > 20);
await page.keyboard.press('Escape');
await free();
assert.equal(await page.evaluate(() => document.activeElement.id), 'text');

// A book that is dropped on it: tokens and speed are shown, and memory that does not grow as a cache of all tokens does.
await name('book');
assert.equal(await log.textContent(), '');
const dropped = await page.evaluateHandle((book) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([book], 'A book.txt', { type: 'text/plain' }));
  return transfer;
}, book);
await page.dispatchEvent('body', 'dragover', { dataTransfer: dropped });
await page.dispatchEvent('body', 'drop', { dataTransfer: dropped });
const seen = [];
while (await button('Stop').isVisible() || seen.length === 0) {
  const now = await facts();
  if (now.speed && now.tokens !== seen.at(-1)?.tokens) seen.push(now);
  if (seen.length === 2) await picture('reading');
  await page.waitForTimeout(50);
}
await note('Read in');
await page.waitForTimeout(1100); // a look that was to follow the reply that was stopped must not take the speed away
const read = await facts();
await picture('read');
seen.push(read);
assert.ok(read.tokens > book.length / 5 && read.speed > 0, JSON.stringify(read));
if (book.length > 1e6) {
  assert.ok(seen.length > 5 && seen.every((now, i) => i === 0 || now.tokens >= seen[i - 1].tokens), JSON.stringify(seen));
  assert.ok(read.cache > 3 * seen[1].cache, JSON.stringify(seen));
}
assert.ok(Math.max(...seen.map((now) => now.memory)) < 1.5 * seen[0].memory && read.memory < read.cache, JSON.stringify(seen));

// Saved, forgotten and restored; still there when the page is loaded again; merged with another.
const coming = page.waitForEvent('download');
await button('Save').click();
const copy = await (await coming).path();
assert.equal((await coming).suggestedFilename(), 'book.snapshot');
assert.ok(readFileSync(copy).length > 0.5 * read.memory);
await free();
await button('Forget').click();
await dialog.getByText('Forget “book” for good?').waitFor();
await picture('forget');
await button('Cancel').click();
await free();
assert.equal((await facts()).tokens, read.tokens);
await button('Forget').click();
await button('OK').click();
await note('“book” is forgotten');
await free();
assert.ok(await button('Save').isDisabled() && await button('Forget').isDisabled());
await name('again');
const choosing = page.waitForEvent('filechooser');
await button('Load…').click();
await (await choosing).setFiles({ name: 'book.snapshot', mimeType: 'application/octet-stream', buffer: readFileSync(copy) });
await note('is what book.snapshot holds');
await free();
assert.equal((await facts()).tokens, read.tokens);
await page.reload();
await page.waitForFunction(() => /tokens read/.test(document.querySelector('#facts').textContent));
assert.equal(await memory.inputValue(), 'again');
assert.equal((await facts()).tokens, read.tokens);
const damaged = page.waitForEvent('filechooser');
await button('Load…').click();
await (await damaged).setFiles({ name: 'bad.snapshot', mimeType: 'application/octet-stream', buffer: Buffer.from('no snapshot') });
await log.locator('.note').last().waitFor(); // says what is wrong
await free();
assert.equal((await facts()).tokens, read.tokens);

await name('other');
await text.fill('Tom is sad.');
await text.press('Enter');
await page.waitForFunction(() => document.querySelector('#log .assistant')?.textContent.length > 20);
await button('Stop').click();
await free();
await name('again');
await button('Merge…').click();
await dialog.getByLabel('The memory that is added to “again”').fill('other');
await picture('merge');
await page.keyboard.press('Enter');
await note('What “other” holds is in “again” too.');
await free();
assert.equal((await facts()).tokens, read.tokens);

// By keyboard alone: each control is reached, is seen to have the focus, and has a name.
const reached = [];
await page.evaluate(() => document.activeElement.blur());
for (let i = 0; i < 12; ++i) {
  await page.keyboard.press('Tab');
  const [id, outline] = await page.evaluate(() => [document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]);
  if (id && outline === 'none') assert.fail(`the focus on ${id} does not show`);
  reached.push(id);
}
for (const id of ['memory', 'book', 'keep', 'load', 'merge', 'forget', 'log', 'text', 'send']) assert.ok(reached.includes(id), `${id}: ${reached}`);
const nameless = await page.evaluate(() => [...document.querySelectorAll('button, input:not([hidden]):not([type=hidden]), textarea')]
  .filter((control) => !control.textContent.trim() && !control.ariaLabel && ![...control.labels ?? []].length).map((control) => control.id));
assert.deepEqual(nameless, []);
const tree = await page.locator('body').ariaSnapshot();
for (const part of ['heading "stories260K', 'combobox "Memory"', 'group "The memory"', 'button "Read…"', 'log "Conversation"', 'textbox "Message"', 'button "Send"'])
  assert.ok(tree.includes(part), `${part} is not in\n${tree}`);
assert.equal(await page.locator('html').getAttribute('lang'), 'en');

// On a phone nothing is cut off, and fingers hit the buttons.
await page.setViewportSize({ width: 390, height: 844 });
await text.fill('Tell me a story about a very long word: ' + 'x'.repeat(300));
await text.press('Enter');
await page.waitForFunction(() => document.querySelector('#log .assistant')?.textContent.length > 300);
await page.keyboard.press('Escape');
await free();
await fits();
await picture('phone');
for (const box of await Promise.all((await page.getByRole('button').all()).map((one) => one.boundingBox())))
  assert.ok(box.height >= 24 && box.width >= 24 && box.x >= 0 && box.x + box.width <= 390, JSON.stringify(box));
await page.emulateMedia({ colorScheme: 'dark' });
await picture('dark');
assert.deepEqual(faults, []);
await browser.close();
