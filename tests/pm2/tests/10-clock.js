'use strict';
const assert = require('assert');
const every = '* * * * * *';
exports['cron_restart restarts, a stopped app too, and 0 ends it'] = async t => {
  await t.ok(['start', 'idle.js', '--name', 'cr', '--cron-restart', every]);
  const [p] = await t.proc('cr'); assert.strictEqual(p.pm2_env.cron_restart, every);
  await t.waitFor(async () => (await t.proc('cr'))[0].pm2_env.restart_time >= 2, 9000, 'two restarts');
  await t.ok('stop cr'); await t.waitFor(async () => (await t.proc('cr'))[0].pm2_env.status === 'online', 5000, 'started by the clock');
  await t.ok(['restart', 'cr', '--cron-restart', '0']);
  const [q] = await t.proc('cr'); await t.sleep(2200); assert.strictEqual((await t.proc('cr'))[0].pid, q.pid);
};
exports['cron_restart of an ecosystem file'] = async t => {
  await t.ok(['start', t.eco([{ name: 'ce', script: t.app('idle.js'), cron_restart: every }, { name: 'far', script: t.app('idle.js'), cron: '0 0 1 1 *' }])]);
  await t.waitFor(async () => (await t.proc('ce'))[0].pm2_env.restart_time >= 1, 9000, 'a restart');
  assert.strictEqual((await t.proc('far'))[0].pm2_env.restart_time, 0);
};
const fs = require('fs'), path = require('path');
// An app in a directory of its own, and a way to change a file there until something happens.
const watched = t => { const dir = fs.mkdtempSync(path.join(t.work, 'watched-')); const script = path.join(dir, 'idle.js'); fs.copyFileSync(t.app('idle.js'), script); return { dir, script, touch: () => fs.writeFileSync(path.join(dir, 'file.txt'), String(Date.now())) }; };
exports['watch restarts when files change, stop ends it, start --watch begins it'] = async t => {
  const w = watched(t); await t.ok(['start', w.script, '--name', 'wt', '--watch', '--cwd', w.dir]);
  assert.ok((await t.proc('wt'))[0].pm2_env.watch);
  await t.waitFor(async () => { w.touch(); return (await t.proc('wt'))[0].pm2_env.restart_time >= 1; }, 9000, 'a restart');
  await t.ok('stop wt'); assert.strictEqual((await t.proc('wt'))[0].pm2_env.watch, false);
  await t.ok('start wt'); const [p] = await t.proc('wt'); w.touch(); await t.sleep(1200); assert.strictEqual((await t.proc('wt'))[0].pid, p.pid);
  await t.ok(['restart', 'wt', '--watch']); const [q] = await t.proc('wt');
  await t.waitFor(async () => { w.touch(); return (await t.proc('wt'))[0].pid !== q.pid; }, 9000, 'a restart after --watch');
};
exports['ignore_watch and watch_delay of an ecosystem file'] = async t => {
  const w = watched(t); const app = { name: 'we', script: w.script, cwd: w.dir, watch: ['.'], ignore_watch: ['logs', '*.tmp'], watch_delay: 100 };
  await t.ok(['start', t.eco([app, { ...app, name: 'wf', watch: false }])]);
  await t.waitFor(async () => { w.touch(); return (await t.proc('we'))[0].pm2_env.restart_time >= 1; }, 9000, 'a restart');
  await t.sleep(500); const [p] = await t.proc('we');
  fs.mkdirSync(path.join(w.dir, 'logs'), { recursive: true }); fs.writeFileSync(path.join(w.dir, 'logs', 'x'), '1'); fs.writeFileSync(path.join(w.dir, 'a.tmp'), '1'); fs.mkdirSync(path.join(w.dir, 'node_modules'));
  await t.sleep(800); assert.strictEqual((await t.proc('we'))[0].pid, p.pid); assert.strictEqual((await t.proc('wf'))[0].pm2_env.restart_time, 0);
};
