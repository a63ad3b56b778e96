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
