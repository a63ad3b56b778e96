'use strict';
// pmd over its control socket. PMD_BIN names the program; PMD_CONTROL a socket where a
// daemon already listens (with PMD_HUB_TCP and PMD_HUB_UNIX, its ipevents addresses).
const { spawn } = require('child_process');
const { EventEmitter } = require('events');
const fs = require('fs'), net = require('net'), os = require('os'), path = require('path');
const lines = require('../lib/lines');
const sleep = ms => new Promise(r => setTimeout(r, ms));
const freePort = () => new Promise(r => { const s = net.createServer().listen(0, '127.0.0.1', () => { const p = s.address().port; s.close(() => r(p)); }); });

// ---- arguments: functions are {"$fn": ref}, back references {"$ref": path from the root of args}
function encode(args) {
  const copy = (v, p, up) => {
    if (v === null || typeof v !== 'object') return v === undefined ? null : v;
    const loop = up.find(u => u.v === v);
    if (loop) return { $ref: loop.p };
    const chain = up.concat({ v, p }), out = Array.isArray(v) ? [] : {};
    for (const k of Object.keys(v)) out[k] = copy(v[k], p.concat(k), chain);
    return out;
  };
  return copy(args, [], []);
}
function decode(args, call) {
  const refs = [];
  const walk = (o, k) => {
    const v = o[k];
    if (v === null || typeof v !== 'object') return;
    if (typeof v.$fn === 'string') o[k] = (...a) => call(v.$fn, a);
    else if (Array.isArray(v.$ref)) refs.push(() => { o[k] = v.$ref.reduce((x, s) => x[s], args); });
    else for (const i of Object.keys(v)) walk(v, i);
  };
  for (const i of Object.keys(args)) walk(args, i);
  for (const f of refs) f();
  return args;
}

class Proc extends EventEmitter {
  constructor(d, spec) { super(); this.d = d; this.spec = spec; this.name = 'p' + (++d.seq); this.pid = null; this.on('error', () => {}); }
  start() {
    const s = this.spec;
    this.made = this.d.ask('command', { action: 'start', process: this.name, wait: 'none', config: {
      script: s.command ? s.command[0] : s.script, args: (s.command ? s.command.slice(1) : []).concat(s.args || []), cwd: s.cwd || __dirname,
      ...(s.command ? { interpreter: 'none' } : {}), env: Object.assign({ IPC_CONF: path.join(__dirname, '..') }, s.env),
      intercom: s.ipc === 'eager' ? 'eager' : 'auto', kill_signal: 'SIGTERM',
      // both present, so that intercom's order of decision applies
      ...(s.max ? { max_runs: s.max } : {}), min_uptime: s.minUptime || 0, spin_sleep: s.spinSleepTime || 0
    } }).catch(e => this.emit('error', e));
    return this;
  }
  // ---- what the daemon tells
  status(m) {
    const x = m.data, t = Date.parse(m.timestamp), was = this.was; this.was = x.status;
    if (x.snapshot) return;
    if (x.status === 'online') { this.pid = x.pid; this.since = t; this.emit(this.ran ? 'restart' : 'start'); this.ran = true; }
    const lived = ['online', 'stopping', 'starting'].includes(was), over = ['stopped', 'errored'].includes(x.status);
    if (lived && (over || x.status === 'restarting')) { this.spinning = t - this.since < (this.spec.minUptime || 0); this.emit('exit', x.exit_code, x.signal); }
    if (over) this.emit('close', this.spinning, x.exit_code, x.signal);
  }
  channel(x) {
    const p = x.payload || {};
    if (x.event === 'process:msg') { if (p.raw === 'ready') this.emit('ready'); this.emit('message', p.raw); }
    else if (x.event === 'intercom:event') this.emit('event', p.event, decode(p.args, (fn, a) => this.d.call('ipc.call', { fn }, a)));
    else if (x.event === 'intercom:warn') this.emit('warn', p.reason);
    else if (/^(intercom|ipc):/.test(x.event)) this.emit(x.event.replace(/^.*:/, ''));
    else if (!x.event.startsWith('ipevents:')) this.emit('bus', x.event, p.data);
  }
  // ---- what the test asks
  async emitTo(event, ...args) { return this.d.call('ipc.emit', { target: this.name, event }, args); }
  async send(message) { return this.d.written(await this.d.ask('ipc.send', { target: this.name, message })); }
  disconnect() { return this.d.ask('ipc.disconnect', { target: this.name }); }
  act(action) { return this.d.ask('command', { action, process: this.name, wait: 'none' }).catch(e => this.emit('error', e)); }
  stop() { return this.act('stop'); }
  restart() { return this.act('restart'); }
  kill(sig) { if (this.pid) process.kill(this.pid, sig); }
}

module.exports = class PmdDriver {
  constructor() {
    this.name = 'pmd';
    this.caps = new Set(['intercom', 'lazy', 'plain', 'fd', 'handles', 'hub', 'unix', 'hubctl', 'hubrestart', 'supervise', 'stopspin', 'channelctl', 'eager', 'strict']);
    this.procs = []; this.seq = 0; this.n = 0; this.waiting = new Map(); this.queue = [];
  }
  async init() {
    let sock = process.env.PMD_CONTROL;
    this.tcpPort = +process.env.PMD_HUB_TCP || await freePort();
    this.unixPath = process.env.PMD_HUB_UNIX;
    if (!sock) {
      const dir = this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pmdipc-')), home = path.join(dir, 'h');
      fs.mkdirSync(home, { mode: 0o700 });
      this.unixPath = path.join(dir, 'hub.sock'); sock = path.join(home, 'pmd.sock');
      fs.writeFileSync(path.join(home, 'pmd.json'), JSON.stringify({ ipevents: this.hubSettings() }), { mode: 0o600 });
      const log = fs.openSync(path.join(dir, 'daemon.log'), 'a');
      this.daemon = spawn(process.env.PMD_BIN || 'pmd', ['daemon', '--foreground', '--home', home, '--no-web'],
        { env: { ...process.env, PMD_HOME: home, PM2_HOME: path.join(home, '.pm2') }, stdio: ['ignore', log, log] });
      this.ended = new Promise((r, j) => { this.daemon.once('exit', r); this.daemon.once('error', j); });
      this.ended.catch(() => {});
    }
    for (let i = 0; ; i++) {
      try { await new Promise((r, j) => { this.sock = net.connect(sock, r).once('error', j); }); break; } catch (e) {
        if (i > 100) throw new Error('no daemon on ' + sock + (this.dir ? '\n' + fs.readFileSync(path.join(this.dir, 'daemon.log'), 'utf8').slice(-500) : ''));
        await sleep(100);
      }
    }
    this.sock.on('error', () => {});
    // One line after the other, so that whoever waits for an answer is at it before the next event.
    let turn = Promise.resolve();
    const later = l => { turn = turn.then(() => this.line(JSON.parse(l))).then(() => new Promise(setImmediate)); };
    this.sock.on('data', lines(1 << 24, later, () => {}));
    this.hub = Object.assign(new EventEmitter(), {
      toChilds: (event, ...args) => this.hubSend({ type: 'toChilds', event, args }),
      toChild: (to, event, ...args) => this.hubSend({ type: 'toChild', to: String(to), event, args }),
      sendTo: (to, event, ...args) => this.hubSend({ type: 'sendTo', to: String(to), event, args })
    });
    await this.ask('subscribe', { events: ['process_status', 'log_message', 'channel_event'] });
  }
  hubSettings() { return { tcp: '127.0.0.1:' + this.tcpPort, unix: this.unixPath }; }
  hubSend(data) { return this.ask('ipevents.send', data).then(() => true, () => false); }

  // ---- the control protocol: at most 32 requests in flight, replies by id
  ask(type, data) { return new Promise((ok, no) => { this.queue.push({ type, data, ok, no }); this.pump(); }); }
  pump() {
    while (this.queue.length && this.waiting.size < 32) {
      const q = this.queue.shift(), id = ++this.n;
      this.waiting.set(id, q);
      this.sock.write(JSON.stringify({ type: q.type, data: q.data, id }) + '\n');
    }
  }
  line(m) {
    if (m.reply_to !== undefined) {
      const q = this.waiting.get(m.reply_to); this.waiting.delete(m.reply_to); this.pump();
      if (!q) return;
      return m.type === 'error' ? q.no(Object.assign(new Error(m.data.message), { code: m.data.code, details: m.data.details })) : q.ok(m.data);
    }
    const x = m.data, p = this.procs.find(p => p.name === (m.type === 'process_status' ? x.name : x.process));
    if (m.type === 'channel_event' && x.event.startsWith('ipevents:')) {
      const y = x.payload;
      return x.event === 'ipevents:event' ? this.hub.emit('event', y) : this.hub.emit(x.event.slice(9), y.id, y);
    }
    if (!p) return;
    if (m.type === 'process_status') p.status(m);
    else if (m.type === 'log_message') p.emit(x.stream, x.message);
    else if (m.type === 'channel_event') p.channel(x);
  }
  written(r) { return r.results.length > 0 && r.results.every(x => x.written); }
  // a function as last argument: answered by what the child passes to it
  async call(type, data, args) {
    const f = typeof args[args.length - 1] === 'function' ? args.pop() : null;
    if (f) { if (type === 'ipc.emit') type = 'ipc.request'; data = Object.assign({ timeout_ms: 5000 }, data); }
    try {
      const r = await this.ask(type, Object.assign(data, { args: encode(args) }));
      if (f) f(...decode(r.results[0].answer, (fn, a) => this.call('ipc.call', { fn }, a)));
      return this.written(r);
    } catch (e) { return false; }
  }

  start(spec) { const p = new Proc(this, spec); this.procs.push(p); return p.start(); }
  async restartHub(gapMs) {
    const set = s => Promise.all(Object.entries(s).map(([k, value]) => this.ask('set_setting', { key: 'ipevents.' + k, value })));
    await set({ tcp: null, unix: null }); await sleep(gapMs || 0); await set(this.hubSettings());
  }
  async reset() {
    const all = this.procs; this.procs = [];
    for (const p of all) { await p.made; try { p.kill('SIGKILL'); } catch (e) {} await this.ask('command', { action: 'delete', process: p.name }).catch(() => {}); }
  }
  async close() {
    await this.reset();
    this.sock.destroy();
    if (!this.daemon) return;
    this.daemon.kill('SIGTERM');
    setTimeout(() => this.daemon.kill('SIGKILL'), 5000).unref();
    await this.ended;
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
};
