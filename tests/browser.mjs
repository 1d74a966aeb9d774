// Opens a report.html in Chromium, does what a reader does, and prints what came of it as JSON.
// node browser.mjs FOLDER_OF_PLAYWRIGHT CHROMIUM PAGE WORD [SCREENSHOT]
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, executablePath, page, word, screenshot] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/`)('playwright-core');
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const seen = { errors: [], requests: [] };
try {
  const tab = await browser.newPage({ viewport: { width: 1200, height: 900 } });
  tab.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) seen.errors.push(message.text());
  });
  tab.on('pageerror', (error) => seen.errors.push(String(error)));
  tab.on('dialog', (dialog) => {
    seen.errors.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  const address = pathToFileURL(page).href;
  tab.on('request', (request) => {
    if (!request.url().startsWith(address)) seen.requests.push(request.url());
  });
  const began = Date.now();
  await tab.goto(address, { waitUntil: 'load' });
  seen.loaded = Date.now() - began;
  const count = (selector) => tab.locator(selector).count();
  const shown = (selector) => tab.locator(selector).evaluateAll((all) => all.filter((it) => it.offsetParent !== null).length);

  seen.details = await count('.tree details');
  await tab.click('#close');
  seen.openAfterFold = await count('.tree details[open]');
  await tab.click('#open');
  seen.openAfterOpen = await count('.tree details[open]');

  // Without a mouse: the first stop leads past the header, and Escape empties the search.
  await tab.keyboard.press('Tab');
  await tab.evaluate(() => document.activeElement.blur());
  await tab.focus('.skip');
  seen.skips = await tab.evaluate(() => getComputedStyle(document.activeElement).left !== '-1584px' && document.activeElement.hash);
  await tab.focus('#search');
  await tab.keyboard.type('no such word anywhere');
  const cardsBefore = await shown('article');
  await tab.keyboard.press('Escape');
  seen.escapes = cardsBefore === 0 && (await tab.inputValue('#search')) === '' && (await shown('article')) > 0;
  await tab.evaluate(() => document.activeElement.blur());

  seen.cards = await shown('article');
  await tab.keyboard.press('/');
  seen.focus = await tab.evaluate(() => document.activeElement.id);
  await tab.keyboard.type(word);
  seen.told = await tab.textContent('#told');
  seen.hits = await count('.tree .hit');
  await tab.fill('#search', 'no such word anywhere');
  seen.cardsWithoutHit = await shown('article');
  await tab.fill('#search', '');
  seen.cardsAgain = await shown('article');

  const link = tab.locator('article a[href^="#n-"]').first();
  seen.links = await link.count();
  if (seen.links) {
    await tab.click('#close');
    const target = await link.getAttribute('href');
    await link.click();
    await tab.waitForTimeout(100);
    seen.linked = await tab.locator(`[id="${target.slice(1)}"]`).evaluate((it) => it.offsetParent !== null);
  }
  // An agent's session: it folds by a key, a finding's link opens it again, and its call leads back.
  seen.sessions = await count('details.session');
  if (seen.sessions) {
    const session = tab.locator('details.session').first();
    const isOpen = () => session.evaluate((it) => it.open);
    const before = await isOpen();
    await session.locator('summary').focus();
    await tab.keyboard.press('Enter');
    seen.foldsByKey = (await isOpen()) !== before;
    await tab.evaluate(() => document.querySelectorAll('details.session').forEach((it) => { it.open = false; }));
    const call = tab.locator('article a[href^="#c-"]').first();
    if (await call.count()) {
      const target = await call.getAttribute('href');
      await call.click();
      await tab.waitForTimeout(100);
      const row = tab.locator(`[id="${target.slice(1)}"]`);
      seen.callShown = await row.evaluate((it) => it.offsetParent !== null);
      seen.callLeadsBack = await row.locator('a[href^="#f-"]').count();
    }
  }
  seen.broken = await tab.evaluate(() =>
    [...document.querySelectorAll('a[href^="#"]')]
      .map((it) => decodeURIComponent(it.getAttribute('href').slice(1)))
      .filter((id) => !document.getElementById(id)));

  const view = () => tab.locator('#chart').getAttribute('viewBox');
  if (await count('#chart')) {
    const before = await view();
    await tab.click('#closer');
    const closer = await view();
    seen.zoomed = closer !== before;
    await tab.focus('#chart');
    await tab.keyboard.press('+');
    await tab.keyboard.press('ArrowRight');
    seen.zoomsByKey = (await view()) !== closer;
  }
  const background = () => tab.evaluate(() => getComputedStyle(document.documentElement).backgroundColor + getComputedStyle(document.body).backgroundColor);
  await tab.emulateMedia({ colorScheme: 'light' });
  const light = await background();
  if (screenshot) {
    const [path, anchor] = screenshot.split('#');
    await tab.click('#open');
    await tab.evaluate((anchor) => {
      document.activeElement.blur();
      if (anchor) document.getElementById(anchor).scrollIntoView();
      else window.scrollTo(0, 0);
    }, anchor);
    await tab.waitForTimeout(100);
    await tab.screenshot({ path });
  }
  await tab.emulateMedia({ colorScheme: 'dark' });
  seen.hasDark = (await background()) !== light;
  seen.scripts = await count('script');
  seen.foreign = await tab.evaluate(() =>
    document.querySelectorAll('img, iframe, object, embed, link, [onerror], [onload], [onclick], a[href^="javascript:"]').length);
  seen.taken = await tab.evaluate(() => window.taken ?? null);
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
