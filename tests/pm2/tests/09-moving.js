'use strict';
// From the real PM2 to pmd: its daemon is asked, ended, and its programs run on under the same names and ids.
const assert = require('assert'), fs = require('fs'), path = require('path'), cp = require('child_process');
const bin = process.env.PMD_BIN;
exports['resurrect --from-pm2 takes over what a living PM2 runs'] = { needsDaemonCmd: true, fn: async t => {
  if (!bin) return;
  const home = path.join(t.work, 'moving'); fs.mkdirSync(home);
  const env = { PM2_HOME: home, PMD_HOME: path.join(home, 'pmd') };
  fs.writeFileSync(path.join(home, 'touch'), '1'); fs.writeFileSync(path.join(home, 'module_conf.json'), '{}');
  const pmd = (...a) => new Promise(r => cp.execFile(bin, a, { env: t.env(env) }, (e, out, err) => r({ code: e ? e.code : 0, out, err })));
  try {
    for (const n of ['m0', 'm1', 'm2']) await t.ok(['start', 'idle.js', '--name', n], { env: { ...env, MARK: n } });
    await t.ok('delete m1', { env }); await t.ok('stop m2', { env });
    const old = +fs.readFileSync(path.join(home, 'pm2.pid'), 'utf8');
    const r = await pmd('resurrect', '--from-pm2', '--json'); assert.strictEqual(r.code, 0, r.out + r.err);
    let left = ''; try { left = fs.readFileSync(`/proc/${old}/cmdline`, 'utf8'); } catch (e) {}   // a zombie is nothing, whoever reaps it
    assert.strictEqual(left, '');
    const list = JSON.parse((await pmd('jlist', '--reveal')).out);
    assert.deepStrictEqual(list.map(p => [p.name, p.pm_id, p.pm2_env.status, p.pm2_env.env.MARK]), [['m0', 0, 'online', 'm0'], ['m2', 2, 'stopped', 'm2']]);
    assert.strictEqual(list[0].pm2_env.pm_out_log_path, path.join(home, 'logs', 'm0-out.log'));
    // And PM2's own command goes on with the new daemon.
    const j = JSON.parse((await t.ok('jlist', { env })).out); assert.deepStrictEqual(j.map(p => p.pid), list.map(p => p.pid));
  } finally { await pmd('kill', '-y'); }
} };
