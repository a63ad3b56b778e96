#!/usr/bin/env node
'use strict';
// See README.md.  Exit status: 0 all as expected, 1 otherwise.
const fs = require('fs'), path = require('path'), cp = require('child_process'), net = require('net');
const { makeCtx, sleep } = require('./lib/harness.js');
const argv = process.argv.slice(2);
const opt = n => { const i = argv.indexOf('--' + n); return i < 0 ? undefined : argv[i + 1]; };
const profile = opt('profile') || process.env.CONF_PROFILE || 'pmd';   // 'pmd' or 'pm2'
const only = opt('only');
// Names of checks, a line each, that are left out: what they look at is not built yet.
const later = opt('later') ? fs.readFileSync(opt('later'), 'utf8').split('\n').filter(l => l && !l.startsWith('#')) : [];
const home = path.resolve(opt('home') || process.env.PM2_HOME || fs.mkdtempSync(path.join(require('os').tmpdir(), 'pmdpm2-')));
const given = opt('daemon') || process.env.DAEMON_CMD || (process.env.PMD_BIN && `'${process.env.PMD_BIN}' daemon --foreground --home {home}/pmd --no-web`);
const daemonCmd = given && given.replaceAll('{home}', home);
fs.mkdirSync(home, { recursive: true, mode: 0o700 });
// keeps the real CLI from showing its banner and from its first-run version look-up
for (const [f, b] of [['touch', String(Date.now())], ['module_conf.json', '{}']]) if (!fs.existsSync(path.join(home, f))) fs.writeFileSync(path.join(home, f), b);
const probe = () => new Promise(r => { const s = net.connect(path.join(home, 'rpc.sock')); s.on('connect', () => { s.destroy(); r(true); }); s.on('error', () => r(false)); });

process.on('uncaughtException', e => console.log('      note: ' + (e && e.message)));   // a socket that breaks under a test
(async () => {
  let child;
  const startDaemon = async () => {
    child = cp.spawn('/bin/sh', ['-c', 'exec ' + daemonCmd], { detached: true, stdio: 'ignore', env: Object.assign({}, process.env, { PM2_HOME: home, PMD_HOME: path.join(home, 'pmd'), PM2_DISABLE_VERSION_CHECK: '1' }) });
    child.unref();
    for (let i = 0; i < 100; i++) { if (await probe()) return; await sleep(100); }
    throw new Error('daemon did not open ' + home + '/rpc.sock within 10 s');
  };
  if (!(await probe())) { if (!daemonCmd) { console.error('no daemon on ' + home + '/rpc.sock and no --daemon CMD'); process.exit(2); } await startDaemon(); }
  const ctx = makeCtx({ home, root: opt('root') || __dirname, profile, modules: opt('modules') || process.env.CONF_MODULES });
  ctx.startDaemon = daemonCmd ? startDaemon : null; ctx.probe = probe;
  const dir = path.join(opt('root') || __dirname, 'tests'); let pass = 0, fail = 0, skip = 0; const failed = [];
  for (const f of fs.readdirSync(dir).filter(f => f.endsWith('.js')).sort()) {
    const tests = require(path.join(dir, f));
    for (const [name, t] of Object.entries(tests)) {
      const id = f.replace('.js', '') + ' / ' + name;
      if (only && !id.includes(only)) continue;
      const fn = t.fn || t, need = t.profile, ms = t.ms || 60000;
      if (later.includes(id)) { skip++; console.log('later ' + id); continue; }
      if ((need && need !== profile) || (t.needsDaemonCmd && !daemonCmd)) { skip++; console.log('skip  ' + id); continue; }
      const t0 = Date.now();
      try {
        if (!(await probe()) && daemonCmd) await startDaemon();
        await ctx.clean();
        await Promise.race([fn(ctx), sleep(ms).then(() => { throw new Error('test timed out after ' + ms + ' ms'); })]);
        pass++; console.log('ok    ' + id + ' (' + (Date.now() - t0) + ' ms)');
      } catch (e) { fail++; failed.push(id); console.log('FAIL  ' + id + ' (' + (Date.now() - t0) + ' ms)\n      ' + String(e && e.stack || e).split('\n').slice(0, 8).join('\n      ')); }
    }
  }
  try { await ctx.clean(); } catch (e) {}
  if (child) { try { process.kill(child.pid, 'SIGTERM'); } catch (e) {} }
  fs.rmSync(ctx.work, { recursive: true, force: true });
  console.log(`\n${pass} passed, ${fail} failed, ${skip} skipped (profile ${profile})`);
  if (failed.length) console.log('failed:\n  ' + failed.join('\n  '));
  process.exit(fail ? 1 : 0);
})().catch(e => { console.error(e); process.exit(1); });
