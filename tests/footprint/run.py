#!/usr/bin/env python3
"""What pmd may weigh, on the release binary: PMD_BIN=... tests/footprint/run.py

Sizes and counts are absolute and do not depend on the speed of the machine, so they are tests:
the binary; resident memory with 10, 100 and 1000 sleeping children whose output is captured; private
memory of an added child; processes and threads; no context switch and no processor time in ten idle
seconds; no descriptor left after children came, crashed, came back, were stopped and forgotten.
"""
import json, os, sys, tempfile, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'faults'))
import shutil
from driver import Pmd
from harness import fixture, kill9, tagged, wait

MIB = 1024
# children -> resident KiB of all processes of pmd
RESIDENT = {10: 1.5 * 1024, 100: 1.7 * 1024, 1000: 3.5 * 1024}
PRIVATE_A_CHILD = 2
BINARY = 2_000_000           # bytes
PROCESSES, THREADS = 2, 4
SETTLE, IDLE = 5, 10         # seconds

faults = []


def check(what, value, limit, unit=''):
    ok = value <= limit
    print(f'{"ok    " if ok else "FAILED"} {what}: {round(value, 2)} {unit} (at most {limit:g})', flush=True)
    if not ok:
        faults.append(what)


def field(path, name):
    try:
        for line in open(path):
            if line.startswith(name + ':'):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def over(pids, name, file='status'):
    return sum(field(f'/proc/{p}/{file}', name) for p in pids)


def tasks(pids):
    return [f'/proc/{p}/task/{t}' for p in pids for t in os.listdir(f'/proc/{p}/task')]


def activity(pids):
    """context switches and nanoseconds on a processor of all threads"""
    t = tasks(pids)
    switches = sum(field(x + '/status', k) for x in t for k in ('voluntary_ctxt_switches', 'nonvoluntary_ctxt_switches'))
    return switches, sum(int(open(x + '/schedstat').read().split()[0]) for x in t)


def descriptors(pids):
    return sum(len(os.listdir(f'/proc/{p}/fd')) for p in pids)


def tag(d):
    """what the children of this daemon carry in their arguments"""
    return 'tag=' + d.root


def start(d, n):
    """n sleeping children with one command"""
    f = os.path.join(d.root, 'apps.json')
    apps = [dict(name=f'app{i}', script=fixture(), args=['pause', tag(d)], interpreter='none') for i in range(n)]
    with open(f, 'w') as o:
        json.dump({'apps': apps}, o)
    p = d.cli('start', f, timeout=120)
    if p.returncode or not wait(lambda: len(tagged(tag(d))) == n, 60, 0.2):
        raise SystemExit(f'only {len(tagged(tag(d)))} of {n} came up: {p.stdout[-400:]!r}')


def with_daemon(fn):
    root = tempfile.mkdtemp(prefix='pmd-footprint-')
    d = Pmd(root)
    try:
        d.start_daemon()
        fn(d)
    finally:
        d.shutdown()
        d.kill_daemon()
        kill9(tagged(tag(d)))
        shutil.rmtree(root, ignore_errors=True)


def private_kib(pids):
    return over(pids, 'Private_Clean', 'smaps_rollup') + over(pids, 'Private_Dirty', 'smaps_rollup')


def weigh_again(d, n, private):
    start(d, n)
    time.sleep(2)
    private[n].append(private_kib(d.daemon_pids()))


def weigh(d, n, private):
    start(d, n)
    time.sleep(2)
    ps = d.daemon_pids()
    check(f'resident with {n} children', over(ps, 'VmRSS'), RESIDENT[n], 'KiB')
    check(f'processes with {n} children', len(ps), PROCESSES)
    check(f'threads with {n} children', len(tasks(ps)), THREADS)
    private.setdefault(n, []).append(private_kib(ps))
    if n == 100:
        time.sleep(SETTLE - 2)
        switches, cpu = activity(ps)
        time.sleep(IDLE)
        now, cpu_now = activity(ps)
        check(f'context switches in {IDLE} idle seconds', now - switches, 0)
        check(f'processor time in {IDLE} idle seconds', (cpu_now - cpu) / 1e6, 0, 'ms')


def leak(d):
    """every way for a child to come and go, twice: the second round must not need more than the first"""
    seen = []
    for _ in range(3):
        start(d, 50)
        old = set(tagged(tag(d)))
        time.sleep(1.2)                       # past the minimal uptime: back at once
        kill9(old)
        if not wait(lambda: len(set(tagged(tag(d))) - old) == 50, 30, 0.1):
            raise SystemExit('killed children did not come back')
        d.cli('stop', 'all', timeout=60)
        d.cli('delete', 'all', timeout=60)
        wait(lambda: not tagged(tag(d)), 10)
        time.sleep(0.5)
        seen.append(descriptors(d.daemon_pids()))
    check(f'descriptors after three rounds of 50 children ({seen})', seen[-1], seen[0])


def main():
    why = Pmd('/nonexistent').available()
    if why:
        sys.exit(why)
    check('binary', os.path.getsize(shutil.which(os.environ['PMD_BIN'])), BINARY, 'bytes')
    private = {}
    for n in RESIDENT:
        with_daemon(lambda d: weigh(d, n, private))
    # Where the heap grows to is a matter of luck: the median of three.
    for n in (100, 1000) * 2:
        with_daemon(lambda d: weigh_again(d, n, private))
    added = sorted((many - few) / 900 for few, many in zip(private[100], private[1000]))
    check(f'private memory of an added child ({[round(one, 2) for one in added]})', added[1], PRIVATE_A_CHILD, 'KiB')
    with_daemon(leak)
    print(f'{len(faults)} failed')
    sys.exit(bool(faults))


if __name__ == '__main__':
    main()
