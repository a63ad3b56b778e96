"""Fault battery, F01 to F22. Run through run.py."""
import os, sys, time, json, signal, socket, subprocess, resource, struct, fcntl, pwd
from harness import *

NOBODY = 65534


def up(d, name, argv, tag, n=1, timeout=10, **kw):
    d.add(name, argv + [tag], **kw)
    if not wait(lambda: len(tagged(tag)) >= n, timeout):
        raise Broken(f'{name} did not start: {d.status(name)}')
    return tagged(tag)


def T():
    return 'tag=' + uuid.uuid4().hex[:10]


@test('F01-kill9-survive', 'services live on, still writing, when the supervisor is killed with SIGKILL')
def f01(d):
    d.start_daemon()
    t, c = T(), chat_dir(d)
    p = up(d, 'chat', [fixture(), 'chat', c, '1000', '0'], t)
    time.sleep(0.7)
    d.kill_daemon()
    time.sleep(2.5)
    still = [x for x in p if alive(x)]
    err = chat_account(c, b'')['write_errors']
    n1 = chat_account(c, b'')['lines']; time.sleep(0.5); n2 = chat_account(c, b'')['lines']
    return ('pass' if still and n2 > n1 else 'fail'), dict(alive_after=len(still), of=len(p), write_errors=err, still_writing=n2 > n1)


@test('F02-kill9-readopt', 'after SIGKILL and restart of the supervisor exactly one instance of each service runs, and it can be stopped')
def f02(d):
    d.start_daemon()
    ts = [T() for _ in range(5)]
    old = {}
    for i, t in enumerate(ts):
        old[t] = up(d, f'svc{i}', [fixture(), 'pause'], t)
    d.kill_daemon()
    time.sleep(0.5)
    d.revive()
    time.sleep(4)
    n = [len(tagged(t)) for t in ts]
    same = sum(tagged(t) == old[t] for t in ts)
    st = d.status('svc0')
    for i in range(5):
        d.stop(f'svc{i}')
    left = wait(lambda: not any(tagged(t) for t in ts), 6) and 0 or sum(len(tagged(t)) for t in ts)
    ok = n == [1] * 5 and left == 0
    return ('pass' if ok else 'fail'), dict(instances=n, kept_the_same_process=same, status=st, left_after_stop=left)


@test('F03-kill9-logs', 'no log line that the service wrote is lost, doubled or torn across one SIGKILL of the supervisor')
def f03(d):
    d.start_daemon()
    t, c = T(), chat_dir(d)
    up(d, 'chat', [fixture(), 'chat', c, '300', '6'], t, autorestart=False)
    time.sleep(1.2)
    d.kill_daemon()
    time.sleep(0.3)
    d.revive()
    wait(lambda: not tagged(t), 15)
    time.sleep(1.5)
    a = chat_account(c, d.log('chat'))
    return ('pass' if a['lost'] == a['duplicated'] == a['torn'] == 0 and a['incarnations'] == 1 else 'fail'), a


@test('F04-lastwords', 'what a service prints right before it exits is in the log, 20 times out of 20')
def f04(d):
    d.start_daemon()
    n = 0
    for i in range(20):
        t = T()
        d.add(f'lw{i}', [fixture(), 'lastwords', '30', '3', t], autorestart=False)
    time.sleep(3)
    for i in range(20):
        n += d.log(f'lw{i}').count(b'LAST WORDS') >= 1
    return ('pass' if n == 20 else 'fail'), dict(kept=n, of=20)


@test('F05-stop-tree', 'stop ends grandchildren in the same process group and in sessions of their own')
def f05(d):
    d.start_daemon()
    out = {}
    for k in ('group', 'setsid', 'daemon'):
        t = T()
        up(d, 'tree-' + k, [fixture(), 'tree', '3', k], t, n=4)
        d.stop('tree-' + k)
        wait(lambda: not tagged(t), d.kill_grace + 4)
        out[k + '_left'] = len(tagged(t))
        kill9(tagged(t))
    return ('pass' if not any(out.values()) else 'fail'), out


@test('F06-stop-ignores-term', 'a service that ignores SIGTERM is gone within the configured grace + 1 s, and stays stopped')
def f06(d):
    d.start_daemon()
    t = T()
    up(d, 'mule', [fixture(), 'noterm'], t)
    time.sleep(0.5)
    t0 = time.monotonic()
    d.stop('mule')
    wait(lambda: not tagged(t), d.kill_grace + 10)
    dt = time.monotonic() - t0
    time.sleep(1.5)
    return ('pass' if not tagged(t) and dt < d.kill_grace + 1.5 else 'fail'), dict(seconds=round(dt, 2), configured=d.kill_grace, left=len(tagged(t)), status=d.status('mule'))


@test('F07-crash-loop', 'a service that exits at once is restarted at a bounded, falling rate with little CPU')
def f07(d):
    d.start_daemon()
    t = T(); f = d.root + '/starts'
    d.add('loop', [fixture(), 'exit0', f, '0', '1', t])
    ps = d.daemon_pids(); c0 = cpu_ticks(ps); time.sleep(10); c1 = cpu_ticks(ps)
    ts = [float(l.split()[0]) for l in open(f)] if os.path.exists(f) else []
    gaps = [round(b - a, 2) for a, b in zip(ts, ts[1:])]
    st = d.status('loop')
    quiet = (ts and time.clock_gettime(time.CLOCK_MONOTONIC) - ts[-1] > 3)
    return ('pass' if ts and len(ts) <= 20 else 'fail'), dict(starts_in_10s=len(ts), first_gaps=gaps[:6], last_gaps=gaps[-3:], gave_up_or_slowed=bool(quiet), cpu_ms=(c1 - c0) * 10, status=st)


@test('F08-storm-200', '200 services killed in one instant are all restarted once, no zombie stays')
def f08(d, n=200):
    d.start_daemon()
    t = T()
    f = d.root + '/many.json'
    json.dump({'apps': [dict(name=f's{i}', script=fixture(), args=['pause', t], interpreter='none', exec_mode='fork') for i in range(n)]}, open(f, 'w'))
    d.cli('start', f, timeout=120)
    if not wait(lambda: len(tagged(t)) >= n, 90, 0.5):
        raise Broken(f'only {len(tagged(t))} of {n} came up')
    old = set(tagged(t))
    t0 = time.monotonic()
    kill9(old)
    full = wait(lambda: len(set(tagged(t)) - old) >= n, 40, 0.2)
    dt = time.monotonic() - t0
    time.sleep(1.5)
    now = set(tagged(t)) - old
    z = zombies_of(d.daemon_pids())
    return ('pass' if full and len(now) == n and z == 0 else 'fail'), dict(services=n, back=len(now), seconds=round(dt, 2), zombies=z, daemon_alive=bool(d.daemon_pids()))


@test('F09-spawn-errors', 'a program that cannot be started gives a named error; the supervisor lives and others run')
def f09(d):
    d.start_daemon()
    g = d.root + '/bin'; os.makedirs(g)
    open(g + '/garbage', 'wb').write(b'\x01\x02garbage' * 9); os.chmod(g + '/garbage', 0o755)
    open(g + '/badinterp', 'w').write('#!/nonexistent/interp\n'); os.chmod(g + '/badinterp', 0o755)
    open(g + '/noperm', 'w').write('#!/bin/sh\nsleep 100\n'); os.chmod(g + '/noperm', 0o644)
    cases = dict(enoent='/nonexistent/prog', eacces=g + '/noperm', enoexec=g + '/garbage', badinterp=g + '/badinterp', isdir='/etc')
    out, silent = {}, []
    for k, p in cases.items():
        r = d.add('e-' + k, [p])
        time.sleep(2.0)
        s = d.status('e-' + k)
        said = (r.stdout if r is not None else b'').decode('utf-8', 'replace') + json.dumps(s)
        named = any(w in said.lower() for w in ('enoent', 'no such', 'not found', 'eacces', 'permission', 'denied', 'enoexec', 'exec format', 'error', 'directory'))
        bad = s.get('state') in ('running', 'starting')
        out[k] = f"{s.get('state')}{'' if named else ', reason not told'}"
        if bad or not named:
            silent.append(k)
    t = T()
    good = up(d, 'good', [fixture(), 'pause'], t)
    return ('pass' if good and not silent else 'fail'), dict(states=out, daemon_alive=bool(d.daemon_pids()))


@test('F10-leaked-stdout', 'the exit of a service is noticed at once though its grandchild keeps stdout open')
def f10(d):
    d.start_daemon()
    t = T()
    up(d, 'leak', [fixture(), 'leak', '300', '5'], t, autorestart=True)
    p0 = d.status('leak').get('pid')
    t0 = time.monotonic()
    mains = lambda: [p for p in tagged(t) if (stat(p) or {}).get('ppid') != 1 and d.main_pid()]
    ok = wait(lambda: d.status('leak').get('pid') not in (p0, None) or len(tagged(t)) >= 3, 8, 0.2)
    n = len(tagged(t))
    d.stop('leak')
    time.sleep(1.5)
    left = len(tagged(t)); kill9(tagged(t))
    return ('pass' if ok else 'fail'), dict(noticed=bool(ok), seconds=round(time.monotonic() - t0, 1), alive_before_stop=n, leaked_grandchildren_after_stop=left)


@test('F11-closed-stdout', 'a service that closes 0, 1 and 2 keeps running; the supervisor does not spin')
def f11(d):
    d.start_daemon()
    t = T()
    up(d, 'shut', [fixture(), 'closeout'], t)
    time.sleep(1)
    ps = d.daemon_pids(); c0 = cpu_ticks(ps); time.sleep(3); c1 = cpu_ticks(ps)
    s = d.status('shut')
    return ('pass' if len(tagged(t)) == 1 and (c1 - c0) < 60 and s.get('state') in ('running', 'online') else 'fail'), dict(alive=len(tagged(t)), cpu_ms_in_3s=(c1 - c0) * 10, status=s)


@test('F12-binary-log', 'binary output without any newline reaches the log byte for byte')
def f12(d):
    d.start_daemon()
    t = T()
    up(d, 'bin', [fixture(), 'binary'], t)
    time.sleep(2)
    want = bytes(range(256)) * 1024
    got = d.log('bin')
    return ('pass' if want in got or got == want else 'fail'), dict(want=len(want), got=len(got), identical=got == want, got_no_newlines=len(got.replace(b'\n', b'')), want_no_newlines=len(want.replace(b'\n', b'')))


@test('F13-disk-full', 'a full log file system neither kills nor hangs the supervisor or other services; when there is room again logging goes on', root=True)
def f13(d):
    d.start_daemon()
    ld = d.log_dir(); os.makedirs(ld, exist_ok=True)
    d.kill_grace = 2
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=512k,mode=755', 'tmpfs', ld], check=True)
    t, t2, c = T(), T(), chat_dir(d)
    up(d, 'chat', [fixture(), 'chat', c, '200', '14'], t, autorestart=False)
    wait(lambda: os.statvfs(ld).f_bavail == 0, 12, 0.1)
    full = os.statvfs(ld).f_bavail == 0
    time.sleep(1.5)
    alive_d = bool(d.daemon_pids()) and bool(d.status('chat'))
    try:
        other = up(d, 'other', [fixture(), 'pause'], t2, timeout=5)
    except Exception as e:
        other = []
    n1 = chat_account(c, b'')['lines']; time.sleep(0.5); n2 = chat_account(c, b'')['lines']
    subprocess.run(['mount', '-o', 'remount,size=64m', ld], check=True)
    time.sleep(1)
    wait(lambda: not tagged(t), 20)
    time.sleep(1.5)
    a = chat_account(c, d.log('chat'))
    tail = any(l.startswith(b'P') for l in d.log('chat')[-200:].split(b'\n'))
    last = max((int(x.split(b' ')[1]) for x in d.log('chat').split(b'\n')[-50:] if x[:1] == b'P' and x.count(b' ') == 2 and len(x) > 20), default=0)
    resumed = last > a['lines'] * 0.95
    return ('pass' if full and alive_d and resumed else 'fail'), dict(filled=full, daemon_ok=alive_d, other_service_started=bool(other), writer_went_on_while_full=n2 > n1, logging_resumed=resumed, **{k: a[k] for k in ('lines', 'lost', 'torn', 'write_errors')})


@test('F14-conn-flood', 'idle connections up to the fd limit neither stop restarts nor lock out the command line afterwards')
def f14(d):
    d.preexec = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    d.start_daemon()
    t = T(); up(d, 'svc', [fixture(), 'pause'], t)
    p = d.control_socket()
    conns = []
    for i in range(500):
        s = socket.socket(socket.AF_UNIX); s.setblocking(False)
        try:
            s.connect(p); conns.append(s)
        except OSError:
            s.close(); break
    time.sleep(1)
    old = set(tagged(t)); ps = d.daemon_pids(); c0 = cpu_ticks(ps); kill9(old)
    restarted = bool(wait(lambda: set(tagged(t)) - old, 6))
    time.sleep(2); c1 = cpu_ticks(ps)
    during = d.cli('jlist', timeout=6).returncode
    for s in conns:
        s.close()
    time.sleep(1.5)
    after = wait(lambda: d.status('svc').get('state') in ('running', 'online'), 8, 0.5)
    return ('pass' if restarted and after and (c1 - c0) < 150 else 'fail'), dict(connections=len(conns), restarted_during=restarted, cli_rc_during=during, cli_after=bool(after), cpu_ms=(c1 - c0) * 10, daemon_alive=bool(d.daemon_pids()))


@test('F15-permissions', 'state directory, sockets and logs are closed to other users; another user cannot use the control socket', root=True)
def f15(d):
    d.preexec = lambda: os.umask(0o022)
    d.start_daemon()
    t = T(); up(d, 'svc', [fixture(), 'say', 'hello', ], t)
    time.sleep(0.5)
    open_, socks = [], []
    for base, dirs, files in os.walk(d.root):
        for f in files + dirs:
            p = os.path.join(base, f); st = os.lstat(p)
            import stat as S
            rel = os.path.relpath(p, d.root)
            if S.S_ISSOCK(st.st_mode) or S.S_ISFIFO(st.st_mode):
                socks.append((rel, oct(st.st_mode & 0o777)))

    def other(fn):
        r, w = os.pipe(); pid = os.fork()
        if pid == 0:
            try:
                os.setgroups([]); os.setgid(NOBODY); os.setuid(NOBODY); v = fn()
            except Exception as e:
                v = type(e).__name__
            os.write(w, str(v).encode()); os._exit(0)
        os.close(w); b = os.read(r, 400).decode(); os.close(r); os.waitpid(pid, 0); return b

    def reads():
        out = []
        for base, dirs, files in os.walk(d.root):
            if '/bin' in base or 'chat-' in base:
                continue
            for f in files:
                p = os.path.join(base, f)
                if any(x in f for x in ('.log', 'current', 'dump')) and os.access(p, os.R_OK):
                    out.append(os.path.relpath(p, d.root))
        return out[:4]

    def conn():
        p = d.control_socket()
        if not p:
            return 'none'
        s = socket.socket(socket.AF_UNIX); s.connect(p); return 'CONNECTED'
    rd, cn = other(reads), other(conn)
    ok = 'CONNECTED' not in cn and rd in ('[]', 'PermissionError')
    return ('pass' if ok else 'fail'), dict(other_user_connect=cn, other_user_can_read=rd, sockets=sorted(set(socks))[:6])


@test('F16-name-traversal', 'a service name with path parts, newlines or control characters writes nothing outside the state directory')
def f16(d):
    d.start_daemon()
    bad = ['../../../escape1', '/abs-escape', 'a/../../../../escape2', '..', 'nul\x01x', 'new\nline', '-rf', '']
    marks = [os.path.dirname(d.root), d.root]
    before = {m: set(os.listdir(m)) for m in marks}
    out = {}
    for b in bad:
        t = T()
        try:
            r = d.add(b, [fixture(), 'say', 'hello', t])
            out[repr(b)] = 'accepted' if tagged(t) or wait(lambda: tagged(t), 1) else 'refused'
        except (OSError, ValueError) as e:
            out[repr(b)] = type(e).__name__
    time.sleep(1)
    new = {os.path.join('..' if m != d.root else '.', x) for m in marks for x in set(os.listdir(m)) - before[m] if 'escape' in x or 'line' in x}
    return ('pass' if not new and d.daemon_pids() else 'fail'), dict(handling=out, escaped_files=sorted(new), daemon_alive=bool(d.daemon_pids()))


@test('F17-terminal-escapes', 'control characters in names never reach the terminal through list')
def f17(d):
    d.start_daemon()
    t = T()
    nm = 'evil\x1b]0;owned\x07\x1b[2Jname'
    d.add(nm, [fixture(), 'pause', t])
    wait(lambda: tagged(t), 3)
    raw = d.list_raw()
    acc = bool(tagged(t))
    return ('pass' if b'\x1b]0;owned' not in raw and b'\x1b[2J' not in raw and b'\x07' not in raw else 'fail'), dict(name_accepted=acc, osc_in_list=b'\x1b]0;owned' in raw, clear_screen_in_list=b'\x1b[2J' in raw)


@test('F18-stale-pidfile', 'stale pid file that names a stranger and a dead socket: the supervisor starts and leaves the stranger alone')
def f18(d):
    d.start_daemon()
    t = T(); up(d, 'svc', [fixture(), 'pause'], t)
    d.kill_daemon(); time.sleep(0.3); kill9(tagged(t)); time.sleep(0.3)
    st = subprocess.Popen([fixture(), 'pause', 'stranger=' + t])
    n = 0
    for base, _, files in os.walk(d.root):
        for f in files:
            if f.endswith('.pid'):
                open(os.path.join(base, f), 'w').write(str(st.pid)); n += 1
    try:
        d.revive()
    except Broken as e:
        pass
    time.sleep(3)
    ok = st.poll() is None
    back = len(tagged(t))
    d.stop('svc'); time.sleep(1.5)
    ok2 = st.poll() is None
    st.kill(); st.wait()
    return ('pass' if ok and ok2 and back == 1 else 'fail'), dict(pidfiles_poisoned=n, stranger_alive_after_start=ok, stranger_alive_after_stop=ok2, service_back=back, daemon_alive=bool(d.daemon_pids()))


@test('F19-clock-jump', 'wall clock forward one day and back two: no restart, kill or stall; timers keep their length')
def f19(d):
    f = d.root + '/clock'; open(f, 'w').write('0')
    d.env.update(LD_PRELOAD=clockshim(), CLOCKJUMP_FILE=f)
    d.start_daemon()
    t = T(); p = up(d, 'svc', [fixture(), 'pause'], t)
    t2 = T(); up(d, 'mule', [fixture(), 'noterm'], t2)
    ps = d.daemon_pids(); c0 = cpu_ticks(ps)
    open(f, 'w').write('86400'); time.sleep(2)
    open(f, 'w').write('-86400'); time.sleep(1)
    same = tagged(t) == p
    t0 = time.monotonic(); d.stop('mule', timeout=15); wait(lambda: not tagged(t2), 12); dt = time.monotonic() - t0
    old = set(tagged(t)); kill9(old); t1 = time.monotonic(); back = wait(lambda: set(tagged(t)) - old, 10); bt = time.monotonic() - t1
    c1 = cpu_ticks(ps)
    loaded = any(b'clockshim' in open(f'/proc/{x}/maps', 'rb').read() for x in ps)
    return ('pass' if same and dt < d.kill_grace + 2 and back else 'fail'), dict(shim_loaded=loaded, undisturbed=same, stop_seconds=round(dt, 2), restart_seconds=round(bt, 2), cpu_ms=(c1 - c0) * 10)


@test('F20-double-start', '20 concurrent first commands give exactly one daemon')
def f20(d):
    os.makedirs(d.home, exist_ok=True)
    ps = [subprocess.Popen([d.bin, *d.first_command], env=d.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(20)]
    end = time.monotonic() + 40
    hung = 0
    for p in ps:
        try:
            p.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            p.kill(); p.wait(); hung += 1
    time.sleep(2)
    n = len(d.mains())
    rc = d.run(d.bin, 'ping', timeout=10).returncode
    extra = d.mains()
    kill9(extra[1:])
    return ('pass' if n == 1 and rc == 0 else 'fail'), dict(daemons=n, commands_hung=hung, ping_rc=rc)


@test('F21-clean-child', 'a service starts with a clean slate: only fds 0-2, no blocked or ignored signals, own group, normal limits')
def f21(d):
    r, w = os.pipe(); os.set_inheritable(w, True)

    def pre():
        signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGTERM])
        os.dup2(w, 77)
    d.preexec = pre
    real_spawn = subprocess.Popen
    d.env['LD_LIBRARY_PATH_PROBE'] = '1'
    # daemon is launched from a dirty parent: fd 77 open, SIGHUP/USR1 ignored, USR2/TERM blocked
    os.set_inheritable(w, True)
    orig = d.spawn
    d.spawn = lambda *a, **k: orig(*a, close_fds=False, **k)
    orun = d.run
    d.run = lambda *a, **k: orun(*a, **({**k, 'close_fds': False}))
    d.start_daemon()
    t = T(); f = d.root + '/dump.json'
    d.app_fields = {'ipc': 'off'}  # a channel is asked for, or not
    up(d, 'dump', [fixture(), 'dump', f], t)
    wait(lambda: os.path.exists(f), 5)
    os.close(r); os.close(w)
    j = json.load(open(f))
    ign, blk = int(j['SigIgn'], 16), int(j['SigBlk'], 16)
    names = lambda m: [signal.Signals(i + 1).name if i < 31 else f'RT{i+1}' for i in range(64) if m >> i & 1]
    extra = {k: v for k, v in j['fds'].items() if int(k) > 2}
    leader = j['pgid'] == j['pid']
    ok = not extra and not blk and not [n for n in names(ign) if not n.startswith('RT')] and leader
    d.preexec = None
    return ('pass' if ok else 'fail'), dict(extra_fds=extra, blocked=names(blk), ignored=names(ign), group_leader=leader, session_leader=j['sid'] == j['pid'], oom_score_adj=j['oom_score_adj'], nofile=j['nofile_soft'], stdin=j['fds'].get('0'))


@test('F22-daemon-signals', 'SIGPIPE, SIGHUP, SIGUSR1/2, SIGALRM, SIGWINCH, SIGCONT to the supervisor do not end the services')
def f22(d):
    d.start_daemon()
    t = T(); p = up(d, 'svc', [fixture(), 'pause'], t)
    out = {}
    for s in ('SIGPIPE', 'SIGWINCH', 'SIGCONT', 'SIGALRM', 'SIGUSR1', 'SIGUSR2', 'SIGHUP'):
        m = d.daemon_pids()
        if not m:
            out[s] = 'daemon already dead'; continue
        os.kill(m[0], getattr(signal, s)); time.sleep(0.8)
        out[s] = ('ok' if alive(m[0]) else 'daemon died') + ('' if tagged(t) == p else ', service gone or replaced')
        if not alive(m[0]):
            try:
                d.revive(); time.sleep(1.5); p = tagged(t)
            except Exception:
                pass
    bad = {k: v for k, v in out.items() if v != 'ok'}
    return ('pass' if not bad else 'fail'), bad or dict(all='ok')
