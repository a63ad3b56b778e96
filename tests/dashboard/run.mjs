// The dashboard in a real browser against a real daemon with real programs.
//
// usage: PMD_BIN=target/debug/pmd node tests/dashboard/run.mjs [TEXT]
//
// Runs all tests, or those whose name contains TEXT. Pictures go to target/dashboard/.
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { Daemon, browser, check, until, visit } from './harness.mjs';

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const binary = path.resolve(process.env.PMD_BIN ?? 'target/debug/pmd');
const pictures = path.resolve(here, '../../target/dashboard');
const tests = [];
const test = (name, run) => tests.push([name, run]);

/** A dozen apps; `echo` says what is written into the file `words`. */
function apps(home) {
  const program = name => path.join(here, 'programs', name);
  return [
    { name: 'gateway', namespace: 'shop', script: program('serve.mjs'), env: { PORT: '8080', API_KEY: 'hunter2-hunter2' } },
    { name: 'api', namespace: 'shop', script: program('wave.sh'), interpreter: 'sh', instances: 3, kill_timeout: 4000 },
    { name: 'cart', namespace: 'shop', script: program('serve.mjs') },
    { name: 'kiosk', namespace: 'field', script: program('grow.mjs') },
    { name: 'sensor', namespace: 'field', script: program('sensor.sh'), interpreter: 'sh' },
    { name: 'echo', script: program('echo.mjs'), args: [path.join(home, 'words')] },
    { name: 'mailer', script: program('mailer.sh'), interpreter: 'sh', max_restarts: 0, restart_delay: 8000 },
    { name: 'bot', script: program('bot.sh'), interpreter: 'sh', max_restarts: 2 },
    { name: 'report', script: program('report.sh'), interpreter: 'sh', restart: 'never' },
    { name: 'backup', script: 'sleep', args: ['100000'], autostart: false },
    { name: 'watchdog', script: 'sleep', args: ['100000'] },
    { name: 'tunnel', script: 'sleep', args: ['100000'] },
  ];
}

const row = (page, name) => page.locator('#rows tr').filter({ has: page.locator('th button', { hasText: new RegExp(`^${name}$`) }) });
const status = (page, name) => row(page, name).locator('.status span').textContent();
const open = async (page, name, tab) => {
  await row(page, name).locator('th button').click();
  if (tab) await page.locator('#tabs button', { hasText: tab }).click();
};
const press = (page, action) => page.locator(`#actions .${action}`).click();
const isLive = page => until('the page is live', async () => (await page.textContent('#link')).startsWith('live'));
const shows = (page, where, text) => until(`'${text}' in ${where}`, async () => (await page.textContent(where)).includes(text));

test('what is served is small, and allows nothing inline', async ({ daemon }) => {
  let bytes = 0, packed = 0;
  for (const [where, type] of [['/', 'text/html'], ['/app.css', 'text/css'], ['/app.js', 'text/javascript']]) {
    const { status, headers, body } = await daemon.get(where, { accept: 'text/html,*/*' });
    check(status === 200 && headers['content-type'].startsWith(type), `${where}: ${status} ${headers['content-type']}`);
    check(!headers['content-security-policy'].includes('unsafe'), headers['content-security-policy']);
    check(headers['x-content-type-options'] === 'nosniff', 'nosniff');
    bytes += body.length;
    packed += gzipSync(body, { level: 9 }).length;
  }
  check(bytes <= 32 * 1024, `${bytes} bytes`);
  check(packed <= 12 * 1024, `${packed} bytes compressed`);
  return `${bytes} bytes, ${packed} compressed`;
});

test('all programs are listed, sorted, filtered and folded', async ({ page }) => {
  await until('14 rows and the head of a group', async () => await page.locator('#rows tr').count() === 15);
  check(await status(page, 'gateway') === 'online', 'gateway online');
  await until('bot gave up', async () => await status(page, 'bot') === 'errored');
  check((await row(page, 'bot').textContent()).includes('missing DB_URL'), 'why bot gave up');
  await until('memory', async () => /\d+\.\dM/.test(await row(page, 'gateway').locator('.memory span').textContent()));

  await page.locator('#head .memory button').click();
  await until('sorted by memory', async () => (await page.locator('#rows th button').first().textContent()) !== 'api');
  await page.locator('#head .name button').click();
  await until('sorted by name', async () => (await page.locator('#rows th button').first().textContent()) === 'api');

  await row(page, 'api').locator('th button').click();
  await until('folded', async () => await page.locator('#rows tr').count() === 12);
  check(await row(page, 'api').locator('th button').getAttribute('aria-expanded') === 'false', 'aria-expanded');
  await row(page, 'api').locator('th button').click();

  await page.fill('#filter', 'sens');
  await until('filtered by text', async () => await page.locator('#rows tr').count() === 1);
  await page.fill('#filter', '');
  await page.selectOption('#space', 'field');
  await until('filtered by namespace', async () => await page.locator('#rows tr').count() === 2);
  await page.selectOption('#space', '');
  await page.locator('#chips button', { hasText: 'errored' }).click();
  await until('filtered by status', async () => await page.locator('#rows tr').count() === 1);
  await page.locator('#chips button', { hasText: 'errored' }).click();
  await until('all again', async () => await page.locator('#rows tr').count() === 15);
});

test('the host is shown', async ({ page }) => {
  await until('cpu', async () => /%/.test(await page.textContent('#usage')));
  for (const [id, form] of [['#used', /of [\d.]+G/], ['#load', /^\d+\.\d\d/], ['#disk', /of [\d.]+[GT]/], ['#up', /pmd/], ['#host', /./]]) {
    check(form.test(await page.textContent(id)), `${id}: ${await page.textContent(id)}`);
  }
});

test('a crash is seen at once', async ({ daemon, page }) => {
  const restarts = +(await row(page, 'watchdog').locator('.restarts span').textContent());
  const began = Date.now();
  process.kill(await daemon.pid('watchdog'), 'SIGKILL');
  await page.locator('#toasts button', { hasText: 'watchdog crashed, killed by SIGKILL' }).waitFor();
  const took = Date.now() - began;
  await until('one more restart', async () => +(await row(page, 'watchdog').locator('.restarts span').textContent()) === restarts + 1);
  await shows(page, '#events', 'killed by SIGKILL');
  check((await page.textContent('#said')).length > 0, 'said aloud');
  return `after ${took} ms`;
});

test('a process is restarted, stopped and started; what may hurt asks', async ({ daemon, page }) => {
  const before = await daemon.pid('tunnel');
  await open(page, 'tunnel', 'logs');
  await press(page, 'restart');
  const after = await until('another pid', async () => { const pid = await daemon.pid('tunnel'); return pid !== before && pid; });
  await shows(page, '#facts', `pid ${after}`);

  await press(page, 'stop');
  await shows(page, '#actions .stop', 'stop tunnel?');
  check(await daemon.pid('tunnel') === after, 'nothing happened yet');
  await press(page, 'stop');
  await until('stopped', async () => await status(page, 'tunnel') === 'stopped');
  check(await page.locator('#actions .stop').isDisabled(), 'a stopped process cannot be stopped');
  await press(page, 'start');
  await until('online', async () => await status(page, 'tunnel') === 'online');
});

test('several are acted on at once', async ({ daemon, page }) => {
  const before = [await daemon.pid('tunnel'), await daemon.pid('watchdog')];
  for (const name of ['tunnel', 'watchdog']) await row(page, name).locator('input').check();
  await shows(page, '#title', '2 processes');
  await press(page, 'restart');
  await until('both have other pids', async () => (await daemon.pid('tunnel')) !== before[0] && (await daemon.pid('watchdog')) !== before[1]);
});

test('an app is scaled', async ({ page }) => {
  await open(page, 'api:0');
  await page.fill('#number', '4');
  await press(page, 'scale');
  await row(page, 'api:3').waitFor();
  await page.fill('#number', '3');
  await press(page, 'scale');
  await row(page, 'api:3').waitFor({ state: 'detached' });
});

test('a failure says why, in the words of the daemon', async ({ daemon, page }) => {
  const script = path.join(daemon.home, 'gone.sh');
  writeFileSync(script, '#!/bin/sh\nexec sleep 100000\n', { mode: 0o755 });
  await daemon.pmd('start', script, '--name', 'gone');
  await row(page, 'gone').waitFor();
  writeFileSync(script, '#!/no/such/shell\n', { mode: 0o755 });
  await open(page, 'gone');
  await press(page, 'restart');
  await until('an error', async () => (await page.textContent('#failure')).length > 10);
  const said = await page.textContent('#failure');
  await press(page, 'delete');
  await press(page, 'delete');
  await row(page, 'gone').waitFor({ state: 'detached' });
  return said;
});

test('lines are tailed, marked, coloured, filtered and paused', async ({ daemon, page }) => {
  const say = line => appendFileSync(path.join(daemon.home, 'words'), line + '\n');
  await open(page, 'echo', 'logs');
  say('first word');
  await shows(page, '#lines', 'first word');
  say('!went wrong');
  await page.locator('#lines .stderr', { hasText: 'went wrong' }).waitFor();
  say('\x1b[31mred\x1b[0m \x1b[38;5;208morange\x1b[0m \x1b[38;2;1;2;3mtrue\x1b[0m \x1b]0;title\x07\x1b[2Kplain');
  const line = page.locator('#lines div', { hasText: 'red orange true plain' });
  await line.waitFor();
  const colour = word => line.locator('span span', { hasText: word }).first().evaluate(node => getComputedStyle(node).color);
  check(await colour('orange') === 'rgb(255, 102, 0)', `orange: ${await colour('orange')}`);
  check(await colour('true') === 'rgb(1, 2, 3)', `true: ${await colour('true')}`);
  check(await colour('red') !== await colour('plain'), 'red');

  await page.fill('#grep', 'wrong');
  await until('others hidden', async () => !await page.locator('#lines div', { hasText: 'first word' }).isVisible());
  await page.fill('#grep', '');
  await page.click('#pause');
  say('while paused');
  await shows(page, '#pause', 'Resume (1)');
  check(!(await page.textContent('#lines')).includes('while paused'), 'paused');
  await page.click('#pause');
  await shows(page, '#lines', 'while paused');

  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
  check(download.suggestedFilename() === 'echo.log', download.suggestedFilename());
  await page.click('#clear');
  check(await page.textContent('#lines') === '', 'cleared');
});

test('2000 lines are kept, the last ones', async ({ daemon, page }) => {
  await open(page, 'echo', 'logs');
  let text = '';
  for (let i = 1; i <= 3000; i++) text += `line ${i}.\n`;
  appendFileSync(path.join(daemon.home, 'words'), text);
  await shows(page, '#lines', 'line 3000.');
  check(await page.locator('#lines div').count() <= 2000, `${await page.locator('#lines div').count()} lines`);
  const end = await page.locator('#lines').evaluate(box => box.scrollHeight - box.scrollTop - box.clientHeight);
  check(end < 40, `${end} pixels from the end`);
});

test('several logs are tailed together', async ({ daemon, page }) => {
  await page.locator('#close').click();
  for (const name of ['echo', 'sensor']) await row(page, name).locator('input').check();
  await page.locator('#tabs button', { hasText: 'logs' }).click();
  appendFileSync(path.join(daemon.home, 'words'), 'together\n');
  await page.locator('#lines div', { hasText: 'echo together' }).waitFor();
  await page.locator('#lines div', { hasText: 'sensor temp' }).first().waitFor();
});

test('details name the command, the exits and the environment without secrets', async ({ page }) => {
  await open(page, 'gateway', 'details');
  await shows(page, '#details', 'serve.mjs');
  await shows(page, '#details', '***');
  check(!(await page.content()).includes('hunter2'), 'a secret is on the page');
  await open(page, 'bot', 'details');
  await shows(page, '#details', 'exit 78');
  await shows(page, '#details', 'missing DB_URL');
});

test('names and lines that look like markup stay text', async ({ daemon, page }) => {
  const evil = '<img src=x onerror=alert(1)>';
  await daemon.pmd('start', 'sleep', '--name', evil, '--', '100000');
  await page.locator('#rows th', { hasText: evil }).waitFor();
  await page.locator('#rows th button', { hasText: evil }).click();
  await shows(page, '#title', evil);
  await open(page, 'echo', 'logs');
  appendFileSync(path.join(daemon.home, 'words'), '<script>alert(2)</script><b id=evil>\n');
  await shows(page, '#lines', '<script>alert(2)</script>');
  check(await page.locator('img, #evil, main script').count() === 0, 'markup came alive');
  await daemon.pmd('delete', evil);
  await page.locator('#rows th', { hasText: evil }).waitFor({ state: 'detached' });
});

test('the keyboard is enough', async ({ daemon, page }) => {
  const before = await daemon.pid('tunnel'), focus = selector => page.evaluate(where => document.activeElement.matches(where), selector);
  const tabTo = async selector => {
    for (let steps = 0; steps < 60; steps++) {
      if (await focus(selector)) return;
      await page.keyboard.press('Tab');
    }
    throw new Error(`${selector} has no place in the order of Tab`);
  };
  await page.keyboard.press('Escape');
  await page.keyboard.press('/');
  await page.keyboard.type('tunnel');
  await until('one row', async () => await page.locator('#rows tr').count() === 1);
  await tabTo('#rows th button');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  check(outline === 'solid', `the focus is visible: ${outline}`);
  await page.keyboard.press('Enter');
  await shows(page, '#title', 'tunnel');
  await tabTo('#actions .restart');
  await page.keyboard.press('Enter');
  await until('another pid', async () => ![0, before].includes(await daemon.pid('tunnel')));
  await page.keyboard.press('Escape');
  await until('back in the row', () => focus('#rows th button'));
  await page.fill('#filter', '');
});

test('a hidden page measures nothing', async ({ page }) => {
  const last = () => page.sent.filter(({ data }) => data?.events?.includes('process_metrics')).at(-1).type;
  const hide = hidden => page.evaluate(hidden => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  await hide(true);
  await until('metrics are given up', () => last() === 'unsubscribe');
  await hide(false);
  await until('metrics are wanted again', () => last() === 'subscribe');
});

test('the page outlives its daemon', async ({ daemon, page }) => {
  await open(page, 'echo', 'logs');
  const pid = await daemon.pid('echo');
  await daemon.crash();
  await until('it says so', async () => /reconnecting|offline/.test(await page.textContent('#link')));
  await daemon.start(...daemon.options);
  await isLive(page);
  check(await daemon.pid('echo') === pid, 'the process was taken over');
  appendFileSync(path.join(daemon.home, 'words'), 'after all\n');
  await shows(page, '#lines', 'no connection since');
  await shows(page, '#lines', 'after all');
  await until('all rows', async () => await page.locator('#rows tr').count() === 15);
});

test('of many processes only those on the screen are measured', async ({ daemon, page }) => {
  const many = Array.from({ length: 200 }, (_, i) => ({ name: `many-${i}`, script: 'sleep', args: ['1'], autostart: false, namespace: 'many' }));
  writeFileSync(path.join(daemon.home, 'many.json'), JSON.stringify({ apps: many }));
  const said = await daemon.pmd('start', 'many.json');
  check(said.includes('many-199'), said);
  await until('all are listed', async () => { const n = await page.locator('#rows tr').count(); if (n >= 200) return n; throw new Error(`${n} rows, ${await page.textContent('#chips')}`); });
  const measured = await until('a filter', () => page.sent.filter(({ data }) => data?.events?.includes('process_metrics')).at(-1).data.processes);
  check(measured.length > 5 && measured.length < 60, `${measured.length} of them`);
  const began = Date.now();
  await page.fill('#filter', 'many-199');
  await until('filtered', async () => await page.locator('#rows tr').count() === 1);
  const took = Date.now() - began;
  await page.fill('#filter', '');
  await daemon.pmd('delete', 'many');
  await until('gone', async () => await page.locator('#rows tr').count() === 15);
  return `${measured.length} measured, filtered in ${took} ms`;
});

test('pictures of light, dark and phone', async ({ daemon, browser }) => {
  mkdirSync(pictures, { recursive: true });
  const size = { desktop: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } };
  for (const [name, colorScheme, viewport, process, tab] of [
    ['light', 'light', size.desktop, 'gateway', 'logs'], ['dark', 'dark', size.desktop, 'mailer', 'details'],
    ['phone', 'light', size.phone], ['phone-dark', 'dark', size.phone, 'sensor', 'logs'],
  ]) {
    const page = await visit(browser, daemon, { colorScheme, viewport, deviceScaleFactor: 1, hasTouch: viewport === size.phone });
    await isLive(page);
    if (process) await open(page, process, tab);
    // Some seconds of history make the charts worth a look.
    await until('charts', async () => page.evaluate(() => performance.now() > 9000));
    await page.screenshot({ path: path.join(pictures, `${name}.png`) });
    if (viewport === size.phone) {
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      check(wide <= 390, `${wide} pixels wide`);
    }
    check(page.wrong.length === 0, page.wrong.join('; '));
    await page.context().close();
  }
  return pictures;
});

test('a token is asked for, kept, refused and given up', async ({ browser }) => {
  const daemon = new Daemon(binary), file = path.join(daemon.home, 'token');
  writeFileSync(file, 'correct-horse+battery/staple', { mode: 0o600 });
  await daemon.start('--web-token-file', file);
  try {
    const page = await visit(browser, daemon);
    await page.locator('#login').waitFor();
    const enter = async token => {
      await page.fill('#token', token);
      await page.keyboard.press('Enter');
    };
    await enter('wrong');
    await shows(page, '#why', 'not accepted');
    await enter('correct-horse+battery/staple');
    await isLive(page);
    check(!page.url().includes('horse'), page.url());
    check(await page.evaluate(() => !('token' in localStorage)), 'kept beyond the tab without being asked to');
    await page.reload();
    await isLive(page);
    await page.click('#out');
    await page.locator('#login').waitFor();
    await page.reload();
    await page.locator('#login').waitFor();
    await page.check('#stay');
    await enter('correct-horse+battery/staple');
    await isLive(page);
    check(await page.evaluate(() => 'token' in localStorage), 'kept in the browser');
    check(page.wrong.length === 0, page.wrong.join('; '));
  } finally { await daemon.stop(); }
});

const wanted = tests.filter(([name]) => name.includes(process.argv[2] ?? ''));
const daemon = await new Daemon(binary).start();
writeFileSync(path.join(daemon.home, 'apps.json'), JSON.stringify({ apps: apps(daemon.home) }));
await daemon.pmd('start', 'apps.json');
const chrome = await browser();
const page = await visit(chrome, daemon);
let failed = 0;
await isLive(page);
for (const [name, run] of wanted) {
  const began = Date.now();
  try {
    const note = await run({ daemon, browser: chrome, page });
    check(page.wrong.length === 0, `on the page: ${page.wrong.splice(0).join('; ')}`);
    console.log(`ok   ${name} (${Date.now() - began} ms${note ? ', ' + note : ''})`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${name}\n     ${error.message.split('\n').slice(0, 3).join('\n     ')}`);
    mkdirSync(pictures, { recursive: true });
    await page.screenshot({ path: path.join(pictures, `failed-${failed}.png`) }).catch(() => {});
  }
}
await chrome.close();
await daemon.stop();
console.log(`${wanted.length - failed} of ${wanted.length} passed`);
process.exitCode = failed ? 1 : 0;
