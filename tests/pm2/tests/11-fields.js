'use strict';
// What the fields of an ecosystem file mean to the program, through PM2's own command.
const assert = require('assert'), fs = require('fs'), path = require('path');
const dump = async (t, f) => JSON.parse(await t.waitFor(() => { const s = fs.readFileSync(f, 'utf8'); JSON.parse(s); return s; }, 6000, f));
exports['instance_var, increment_var and what else tells instances apart'] = async t => {
  const out = i => path.join(t.work, 'inst-' + i);
  const script = t.file('inst.js', "require('fs').writeFileSync(process.env.OUTF + process.env.WHICH, JSON.stringify(process.env)); setInterval(() => {}, 1000);");
  await t.ok(['start', t.eco({ name: 'iv', script, instances: 2, exec_mode: 'fork', instance_var: 'WHICH', increment_var: 'BASE', env: { BASE: 7000, OUTF: out('') } })]);
  for (const i of [0, 1]) { const e = await dump(t, out(i)); assert.strictEqual(e.BASE, String(7000 + i)); assert.strictEqual(e.WHICH, String(i)); assert.strictEqual(e.name, 'iv'); }
};
exports['env_NAME, filter_env and node_args'] = async t => {
  const f = n => path.join(t.work, 'env-' + n), app = (n, more) => ({ name: n, script: t.app('envdump.js'), env: { OUTF: f(n), MODE: 'usual' }, env_production: { MODE: 'production' }, ...more });
  await t.ok(['start', t.eco([app('ea', { node_args: '--max-old-space-size=99' }), app('eb', { filter_env: ['SECRET'] })]), '--env', 'production'], { env: { AWS_SECRET: 's', COLOUR: 'blue' } });
  const a = await dump(t, f('ea')), b = await dump(t, f('eb'));
  assert.strictEqual(a.env.MODE, 'production'); assert.strictEqual(a.env.AWS_SECRET, 's'); assert.deepStrictEqual(a.execArgv, ['--max-old-space-size=99']);
  assert.strictEqual(b.env.AWS_SECRET, undefined); assert.strictEqual(b.env.COLOUR, 'blue');
};
exports['merge_logs and log_date_format'] = async t => {
  const script = t.file('say.js', "console.log('said ' + process.env.NODE_APP_INSTANCE); setInterval(() => {}, 1000);");
  await t.ok(['start', t.eco({ name: 'ml', script, instances: 2, exec_mode: 'fork', merge_logs: true, log_date_format: 'YYYY [year]' })]);
  const [p, q] = await t.proc('ml'); assert.strictEqual(p.pm2_env.pm_out_log_path, q.pm2_env.pm_out_log_path);
  const text = await t.waitFor(async () => { const l = await t.log(p); return l.includes('said 0') && l.includes('said 1') && l; }, 6000, 'both lines');
  for (const line of text.trim().split('\n')) assert.match(line, /^20\d\d year: said [01]$/);
};
exports['max_memory_restart restarts what grows'] = async t => {
  const script = t.file('grow.js', "const a = []; setInterval(() => a.push(Buffer.alloc(8e6, 1)), 50);");
  await t.ok(['start', t.eco({ name: 'mm', script, max_memory_restart: '120M' })]);
  await t.waitFor(async () => (await t.proc('mm'))[0].pm2_env.restart_time >= 1, 40000, 'a restart');
};
exports['exp_backoff_restart_delay grows and is shown as waiting restart'] = async t => {
  await t.ok(['start', t.eco({ name: 'eb', script: t.app('crash.js'), exp_backoff_restart_delay: 700, env: { AFTER: '50' } })]);
  const t0 = Date.now();
  await t.waitFor(async () => (await t.proc('eb'))[0].pm2_env.status === 'waiting restart', 4000, 'waiting restart');
  await t.waitFor(async () => (await t.proc('eb'))[0].pm2_env.restart_time >= 3, 15000, 'three restarts'); assert(Date.now() - t0 > 700 + 1050);
};
