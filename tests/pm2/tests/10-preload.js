'use strict';
// What Node loads before a program tells of it and changes nothing.
const assert = require('assert'), fs = require('fs'), path = require('path'), cp = require('child_process');

// An app that ends, and is not started again.
const once = (t, name, body, more) => Object.assign({ name, script: t.file(name + (more && more.ext || '.js'), body), autorestart: false }, more && more.app);
const ended = (t, name) => t.waitFor(async () => (await t.proc(name))[0].pm2_env.status === 'stopped' && (await t.proc(name))[0], 10000, name + ' to end');
// The same program without a daemon, with a channel of its own.
const alone = (file, args = []) => new Promise(r => {
  const p = cp.fork(file, args, { silent: true, execArgv: ['--max-old-space-size=200'] }); let out = '';
  p.stdout.on('data', d => out += d); p.on('message', () => {}); p.on('close', code => r({ code, out }));
});

const SHOW = `const { Worker } = require('worker_threads'), cp = require('child_process');
const show = () => ({ execArgv: process.execArgv, argv: process.argv.slice(1), cache: Object.keys(require.cache), main: require.main === module,
  listeners: ['uncaughtException', 'unhandledRejection', 'message', 'disconnect', 'exit'].map(e => process.listenerCount(e)), connected: process.connected });
if (process.argv[2] === 'child') { process.send(show()); process.disconnect(); }
else {
  const w = new Worker('require("worker_threads").parentPort.postMessage(process.execArgv)', { eval: true });
  w.on('message', worker => {
    const child = cp.fork(__filename, ['child']), said = [];
    child.on('message', m => said.push(m)); child.on('close', code => { console.log(JSON.stringify({ own: show(), worker, said, code })); process.disconnect(); });
  });
}`;

exports['a program sees itself as if nothing was loaded before'] = async t => {
  const app = once(t, 'show', SHOW, { app: { args: ['a'], node_args: ['--max-old-space-size=200'] } });
  await t.ok(['start', t.eco(app)]); const p = await ended(t, 'show');
  assert.strictEqual(await t.log(p), (await alone(app.script, ['a'])).out);
};

const ENDS = {
  timer: `setTimeout(() => { throw new TypeError('x timer'); }, 20)`,
  top: `throw new Error('x top')`,
  text: `throw 'x text'`,
  nothing: `throw undefined`,
  nil: `throw null`,
  bare: `throw Object.create(null)`,
  hostile: `throw new Proxy({}, { get() { throw 1; }, has() { throw 2; } })`,
  symbol: `throw Symbol('x symbol')`,
  cyclic: `const e = new Error('x cyclic'); e.self = e; throw e`,
  long: `throw new Error('x'.repeat(3e6))`,
  rejected: `Promise.reject(new RangeError('x rejected'))`,
  'rejected-text': `Promise.reject('x')`,
  syntax: `let let = 1`,
  handled: `process.on('uncaughtException', () => process.exit(5)); throw new Error('x handled')`,
  survived: `process.once('uncaughtException', () => { console.log('on'); process.exitCode = 6; process.disconnect(); }); setTimeout(() => { throw new Error('x survived'); }, 20); process.on('message', () => {})`,
  captured: `process.setUncaughtExceptionCaptureCallback(() => process.exit(4)); throw new Error('x captured')`,
  closed: `process.disconnect(); setTimeout(() => { throw new Error('x closed'); }, 20)`,
  replaced: `process.send = () => { throw new Error('mine'); }; setTimeout(() => { throw new Error('x replaced'); }, 20)`,
  exits: `process.exit(3)`,
  code: `process.exitCode = 9`,
  silent: ``,
};
exports['exit codes and output are those of Node alone'] = async t => {
  const b = await t.bus();
  const apps = Object.entries(ENDS).map(([name, body]) => once(t, 'x-' + name, body));
  apps.push(once(t, 'x-module', `throw new Error('x module')`, { ext: '.mjs' }));
  await t.ok(['start', t.eco(apps)]);
  for (const app of apps) {
    const p = await ended(t, app.name), plain = await alone(app.script);
    assert.deepStrictEqual([p.pm2_env.exit_code, await t.log(p)], [plain.code, plain.out], app.name);
  }
  const told = name => b.events.filter(e => e.name === 'process:exception' && e.data.process.name === name).map(e => e.data.data.message);
  for (const name of ['timer', 'top', 'text', 'cyclic', 'rejected', 'handled', 'survived', 'replaced', 'module'])
    assert.deepStrictEqual(told('x-' + name), ['x ' + name], name);
  assert.deepStrictEqual(told('x-symbol'), ['Symbol(x symbol)']);
  assert.deepStrictEqual(told('x-nothing'), ['undefined']);
  assert.strictEqual(told('x-long')[0].length, 16384);
  for (const name of ['closed', 'exits', 'code', 'silent']) assert.deepStrictEqual(told('x-' + name), [], name);
  const [timer] = b.events.filter(e => e.name === 'process:exception' && e.data.data.message === 'x timer');
  assert.strictEqual(timer.data.data.name, 'TypeError'); assert.match(timer.data.data.stack, /x-timer\.js:1/);
};

exports['pmx false leaves it out; a file that is gone is made again'] = async t => {
  await t.ok(['start', t.eco([{ name: 'with', script: t.app('idle.js') }, { name: 'without', script: t.app('idle.js'), pmx: false }])]);
  const version = async name => (await t.proc(name))[0].pm2_env.node_version;
  await t.waitFor(() => version('with'), 4000, 'the version');
  assert.strictEqual(await version('without'), undefined);
  const [p] = await t.proc('without');
  assert.doesNotMatch(fs.readFileSync(`/proc/${p.pid}/cmdline`, 'utf8'), /--require/);
  const file = path.join(t.home, 'pmd', 'preload.js'); assert(fs.existsSync(file)); fs.unlinkSync(file);
  await t.ok('restart with'); await t.waitFor(() => version('with'), 4000, 'the version again');
};

exports['messages with half a surrogate pair, a NUL and great depth reach the bus'] = async t => {
  const b = await t.bus();
  await t.ok(['start', t.eco(once(t, 'odd', `let deep = []; for (let i = 0; i < 1000; i++) deep = [deep];
    process.send({ type: 'odd', data: '\\ud800\\0x' }); process.send({ type: 'deep', data: deep }); process.disconnect();`))]);
  assert.strictEqual((await b.wait(e => e.name === 'odd')).data.data, '\ud800\0x');
  assert.strictEqual(JSON.stringify((await b.wait(e => e.name === 'deep')).data.data).length, 2002);
};

exports['a handle that is sent along does not hold back what comes after'] = async t => {
  const b = await t.bus();
  await t.ok(['start', t.eco(once(t, 'handle', `const s = require('net').createServer().listen(0, '127.0.0.1', () => {
    process.send({ type: 'with', data: 1 }, s); process.send({ type: 'after', data: 2 }, () => { s.close(); process.disconnect(); }); });`))]);
  await b.wait(e => e.name === 'with'); await b.wait(e => e.name === 'after'); await ended(t, 'handle');
};

exports['disconnect is no end, and the channel of a stopped process is not written to'] = async t => {
  const b = await t.bus();
  await t.ok(['start', t.eco({ name: 'cut', script: t.file('cut.js', `process.send({ type: 'up', data: 1 }); process.disconnect(); setInterval(() => {}, 1000)`) })]);
  await b.wait(e => e.name === 'up'); const [p] = await t.proc('cut');
  const packet = { id: p.pm_id, type: 'process:msg', topic: 'x', data: {} };
  await t.waitFor(() => t.call('sendDataToProcessId', packet).then(() => false, e => /channel is closed/.test(e.message)), 4000, 'the end of the channel');
  assert.strictEqual((await t.proc('cut'))[0].pid, p.pid);
  assert.strictEqual(await t.call('msgProcess', { name: 'cut', msg: { type: 'x' } }), 'sent 0 messages');
  await assert.rejects(t.call('msgProcess', { id: p.pm_id, msg: null }), /Action doesn't exist/);
};
