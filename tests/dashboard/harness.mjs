// A daemon of its own, a browser of its own, and waiting for what is expected.
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

/** How long anything may take before it counts as not happening, in ms. */
export const PATIENCE = 20_000;

const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Looks until `look` gives something true; fails with `what` and what was seen last. */
export async function until(what, look) {
  const end = Date.now() + PATIENCE;
  let last;
  do {
    try {
      const found = await look();
      if (found) return found;
      last = found;
    } catch (error) { last = error.message; }
    await new Promise(done => setTimeout(done, 20));
  } while (Date.now() < end);
  throw new Error(`never: ${what}; last: ${last}`);
}

export function check(holds, what) {
  if (!holds) throw new Error(what);
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise(done => server.once('listening', done));
  const { port } = server.address();
  await new Promise(done => server.close(done));
  return port;
}

/** A daemon in an empty home, and the command line that talks to it. */
export class Daemon {
  constructor(binary) {
    this.binary = binary;
    this.home = mkdtempSync(path.join(os.tmpdir(), 'pmd-dash-'));
    this.env = { ...process.env, PMD_HOME: this.home, PM2_HOME: path.join(this.home, '.pm2') };
    for (const name of ['PMD_SOCKET', 'PMD_WEB', 'PMD_WEB_TOKEN']) delete this.env[name];
  }

  async start(...options) {
    this.port ??= await freePort();
    this.options = options;
    const web = ['--web', `127.0.0.1:${this.port}`];
    this.process = spawn(this.binary, ['daemon', '--foreground', '--home', this.home, ...web, ...options],
      { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.said = '';
    for (const stream of [this.process.stdout, this.process.stderr]) stream.on('data', data => this.said = (this.said + data).slice(-4000));
    this.ended = new Promise(done => this.process.once('exit', done));
    await until(`port ${this.port} answers; the daemon said: ${this.said}`, () => this.get('/healthz').then(reply => reply.status === 200));
    return this;
  }

  get url() { return `http://127.0.0.1:${this.port}/`; }

  /** Runs a command; gives what it printed, whatever its exit status. */
  async pmd(...args) {
    const run = await promisify(execFile)(this.binary, args, { env: this.env, cwd: this.home }).catch(error => error);
    return run.stdout + run.stderr;
  }

  async pid(name) { return +(await this.pmd('pid', name)) || 0; }

  get(where, headers = {}) {
    return new Promise((done, fail) => {
      http.get(this.url.slice(0, -1) + where, { headers, agent: false }, reply => {
        const parts = [];
        reply.on('data', part => parts.push(part));
        reply.on('end', () => done({ status: reply.statusCode, headers: reply.headers, body: Buffer.concat(parts) }));
      }).on('error', fail);
    });
  }

  /** Ends the daemon as an accident would; its processes stay. */
  async crash() {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  async stop() {
    await this.pmd('kill');
    const late = setTimeout(() => this.process.kill('SIGKILL'), PATIENCE);
    await this.ended;
    clearTimeout(late);
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** A browser with an empty profile. */
export async function browser() {
  const executablePath = process.env.CHROMIUM ?? BROWSERS.find(existsSync);
  if (!executablePath) throw new Error(`no browser: ${BROWSERS}`);
  return chromium.launch({ executablePath, args: FLAGS });
}

/** A page that remembers what went wrong in it. */
export async function visit(browser, daemon, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.wrong = [];
  const wrong = what => page.wrong.includes(what) || page.wrong.push(what);
  page.sent = [];
  page.on('pageerror', error => wrong(error.stack));
  page.on('dialog', dialog => { wrong('dialog ' + dialog.message()); dialog.dismiss(); });
  page.on('console', message => {
    // That a connection could not be made is shown on the page; the browser's own words do not matter.
    if (message.type() === 'error' && !/favicon|WebSocket|ERR_CONNECTION|401/.test(message.text() + message.location().url)) wrong(message.text());
  });
  page.on('request', request => request.url().startsWith(daemon.url) || request.url().startsWith('blob:') || wrong('asked ' + request.url()));
  page.on('websocket', socket => socket.on('framesent', ({ payload }) => page.sent.push(JSON.parse(payload))));
  await page.goto(daemon.url);
  return page;
}
