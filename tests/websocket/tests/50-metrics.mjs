import { check, eq, between, sleep, uniq, until, alive, Skip } from '../lib.mjs';
import { spawn } from 'node:child_process';
import path from 'node:path';

// The families of a page, as the parser of its format sees them.
async function families(d, here, format) {
  const headers = format === 'openmetrics' ? { accept: 'application/openmetrics-text; version=1.0.0' } : {};
  const page = await d.http('GET', '/metrics', { headers });
  eq(page.status, 200, 'status');
  const k = spawn(process.env.PYTHON || 'python3', [path.join(here, 'clients/metrics.py'), format]);
  let out = '', err = ''; k.stdout.on('data', x => out += x); k.stderr.on('data', x => err += x); k.stdin.end(page.text);
  const code = await new Promise(r => k.on('close', r));
  if (/No module named 'prometheus_client'/.test(err)) throw new Skip('prometheus_client is not installed');
  eq(code, 0, 'the parser refuses the page: ' + err.slice(-300));
  return JSON.parse(out);
}
const of = (family, name, labels = {}) => family.samples.filter(([, l]) => l.name === name && Object.entries(labels).every(([k, v]) => l[k] === v)).map(s => s[2]);

export const tests = [
  ['both formats are read by their parsers and say the same', 'rest', async ({ d, open, here }) => {
    const c = await open(), p = uniq('m"\\et').replace(/[^\w-]/g, ''), q = uniq('dead');
    await c.sh(p, 'echo hello; while :; do :; done'); await c.sh(q, 'exec sleep 100'); await c.ok('command', { action: 'stop', process: q });
    const pid = (await c.ok('get_info', { process: p })).data.pid;
    await sleep(1300); process.kill(pid, 'SIGKILL');
    await until(async () => of((await families(d, here, 'plain')).pmd_process_crashes, p)[0] === 1, 5000, 'the crash is counted', 300);
    await sleep(700);
    const plain = await families(d, here, 'plain'), open_ = await families(d, here, 'openmetrics');
    eq(Object.keys(open_).sort(), Object.keys(plain).sort(), 'families');
    for (const f of [plain, open_]) {
      eq(of(f.pmd_process_up, p), [1], 'up'); eq(of(f.pmd_process_up, q), [0], 'stopped');
      eq(of(f.pmd_process_state, p).reduce((a, b) => a + b), 1, 'one state'); eq(of(f.pmd_process_state, q, { state: 'stopped' }), [1], 'state');
      eq(f.pmd_process_restarts.type, 'counter', 'type'); eq(of(f.pmd_process_restarts, p), [1], 'restarts');
      between(of(f.pmd_process_cpu_seconds, p)[0], 0.5, 10, 'seconds over both lives'); between(of(f.pmd_process_resident_memory_bytes, p)[0], 1e5, 1e8, 'memory');
      check(of(f.pmd_process_open_fds, p)[0] >= 3, 'descriptors'); eq(of(f.pmd_process_open_fds, q), [], 'no descriptors without a child');
      eq(of(f.pmd_process_last_exit_signal, p), [9], 'signal'); between(of(f.pmd_log_bytes, p, { stream: 'stdout' })[0], 12, 12, 'bytes of output');
      eq(f.pmd_daemon_loop_duration_seconds.type, 'histogram', 'histogram'); eq(f.pmd_processes.samples.length, 6, 'six states');
      check(f.pmd_ws_clients.samples[0][2] >= 1 && f.pmd_ws_messages_sent.samples.length > 0, 'clients'); check(f.pmd_http_requests.samples.some(s => s[1].code === '200'), 'requests');
      between(f.pmd_system_cpu_usage_ratio.samples[0][2], 0, 1, 'ratio'); eq(f.pmd_system_load.samples.map(s => s[1].period), ['1m', '5m', '15m'], 'load');
    }
    await c.del(p); await c.del(q);
  }],
  ['a scrape of a hundred processes is quick', 'rest', async ({ d, open }) => {
    const c = await open(), p = uniq('many'); await c.ok('command', { action: 'start', process: p, config: { script: 'sleep', args: ['100'], instances: 100 } }, 30000);
    const text = (await d.http('GET', '/metrics')).text; eq(text.match(new RegExp(`^pmd_process_up\\{name="${p}"`, 'gm')).length, 100, 'series');
    await c.del(p);
  }],
];
