"""Black-box fault harness for a process supervisor. Python 3.9+, standard library only.

A test is a function decorated with @test; it gets a fresh, empty Driver and returns
(verdict, facts) with verdict one of pass / fail / skip.
"""
import atexit, os, sys, time, json, shutil, struct, signal, subprocess, tempfile, traceback, uuid

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = []


def test(tid, title, root=False):
    def deco(fn):
        TESTS.append(dict(id=tid, title=title, root=root, fn=fn))
        return fn
    return deco


class Skip(Exception):
    pass


class Broken(Exception):
    """the driver could not bring the supervisor to the wanted state"""


# ---------------------------------------------------------------- compiled helpers
_bin = {}
_scratch = []


def _build_dir():
    """one folder for this run, gone with it"""
    if not _scratch:
        _scratch.append(tempfile.mkdtemp(prefix='faults-build-'))
        atexit.register(shutil.rmtree, _scratch[0], ignore_errors=True)
    return _scratch[0]


def build(name, src, *flags):
    if name not in _bin:
        d = os.environ.get('FAULTS_BUILD') or _build_dir()
        os.makedirs(d, exist_ok=True)
        os.chmod(d, 0o755)
        out = os.path.join(d, name)
        cc = os.environ.get('CC', 'cc')
        subprocess.run([cc, '-O1', '-w', *flags, '-o', out, os.path.join(HERE, src)], check=True)
        _bin[name] = out
    return _bin[name]


def fixture():
    return build('fixture', 'fixture.c')


def clockshim():
    return build('clockshim.so', 'clockshim.c', '-shared', '-fPIC')


# ---------------------------------------------------------------- /proc looks
def stat(pid):
    try:
        s = open(f'/proc/{pid}/stat', 'rb').read().decode('latin-1')
    except (FileNotFoundError, ProcessLookupError):
        return None
    f = s[s.rindex(')') + 2:].split()
    return dict(state=f[0], ppid=int(f[1]), pgrp=int(f[2]), sid=int(f[3]), utime=int(f[11]), stime=int(f[12]), start=int(f[19]))


def alive(pid):
    s = stat(pid) if pid else None
    return bool(s and s['state'] not in 'ZX')


def cmdline(pid):
    try:
        return open(f'/proc/{pid}/cmdline', 'rb').read()
    except OSError:
        return b''


def environ(pid):
    try:
        return open(f'/proc/{pid}/environ', 'rb').read()
    except OSError:
        return b''


def pids():
    return [int(x) for x in os.listdir('/proc') if x.isdigit()]


def tagged(tag, exe=True):
    """living (non zombie) fixture processes whose argv holds the tag"""
    t, f = tag.encode(), fixture().encode()
    out = []
    for p in pids():
        c = cmdline(p).split(b'\0')
        if c and t in c and (not exe or c[0] == f) and alive(p):
            out.append(p)
    return sorted(out)


def children(pid):
    out = []
    for p in pids():
        s = stat(p)
        if s and s['ppid'] == pid:
            out.append(p)
    return out


def zombies_of(ppids):
    n = 0
    for p in pids():
        s = stat(p)
        if s and s['state'] == 'Z' and s['ppid'] in ppids:
            n += 1
    return n


def cpu_ticks(plist):
    return sum((lambda s: s['utime'] + s['stime'] if s else 0)(stat(p)) for p in plist)


def rss_kib(plist, field='VmRSS'):
    t = 0
    for p in plist:
        try:
            for l in open(f'/proc/{p}/status'):
                if l.startswith(field + ':'):
                    t += int(l.split()[1])
        except OSError:
            pass
    return t


def wait(fn, timeout=10, step=0.05):
    end = time.monotonic() + timeout
    while True:
        v = fn()
        if v:
            return v
        if time.monotonic() > end:
            return v
        time.sleep(step)


def kill9(plist):
    for p in plist:
        try:
            os.kill(p, signal.SIGKILL)
        except ProcessLookupError:
            pass


# ---------------------------------------------------------------- line accounting
def chat_dir(d):
    p = os.path.join(d.root, 'chat-' + uuid.uuid4().hex[:6])
    os.makedirs(p)
    os.chmod(p, 0o777)
    return p


def chat_account(cdir, log):
    """Compare what the writers say the kernel accepted with what is in the log."""
    seen, torn = {}, 0
    for l in log.split(b'\n'):
        i = l.find(b'P')
        if i < 0:
            continue
        l = l[i:]
        a = l.split(b' ')
        if len(a) == 3 and len(a[0]) == 8 and len(a[1]) == 10 and a[0][1:].isdigit() and a[1].isdigit() and a[2].rstrip(b'\r') == b'abcdefghijklmnopqrstuvwxyz':
            k = (int(a[0][1:]), int(a[1]))
            seen[k] = seen.get(k, 0) + 1
        else:
            torn += 1
    wrote = lost = 0
    err = {}
    for n in os.listdir(cdir):
        c, e, fin, att = struct.unpack('qqqq', open(os.path.join(cdir, n), 'rb').read(32))
        wrote += c
        lost += sum(1 for i in range(c) if (int(n), i) not in seen)
        if e:
            err[n] = os.strerror(e)
    return dict(incarnations=len(os.listdir(cdir)), lines=wrote, lost=lost, duplicated=sum(v - 1 for v in seen.values()), torn=torn, write_errors=sorted(set(err.values())))


# ---------------------------------------------------------------- driver base
class Driver:
    name = '?'
    kill_grace = 2.0          # seconds the driver configures between TERM and KILL

    def __init__(self, root):
        self.root = root
        self.procs = []       # Popen objects started by the driver
        self.env = dict(os.environ)
        self.preexec = None   # run in the daemon's process before exec

    # ---- to be implemented
    def available(self): return None            # or a reason why not
    def start_daemon(self): raise NotImplementedError
    def daemon_pids(self): raise NotImplementedError   # every process of the supervisor itself
    def main_pid(self): return self.daemon_pids()[0]
    def mains(self): return self.daemon_pids()         # the daemons alone, without helpers such as a keeper
    def add(self, name, argv, autorestart=True, cwd=None, env=None): raise NotImplementedError
    def start(self, name): raise NotImplementedError
    def stop(self, name, timeout=30): raise NotImplementedError
    def delete(self, name): pass
    def status(self, name): return {}
    def list_raw(self): return b''
    def log(self, name): return b''
    def log_dir(self): return os.path.join(self.root, 'logs')
    def revive(self): raise Skip('no revive')
    def control_socket(self): return None
    def shutdown(self): pass

    # ---- shared
    def kill_main(self):
        """the daemon is dead, what holds its descriptors (if anything does) is not, and nothing starts it again before revive()"""
        self.kill_daemon()

    def run(self, *argv, timeout=60, check=False, **kw):
        try:
            p = subprocess.run(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, **kw)
        except subprocess.TimeoutExpired as e:
            return subprocess.CompletedProcess(argv, 124, e.stdout or b'')
        if check and p.returncode:
            raise Broken(f'{argv} -> {p.returncode}: {p.stdout[-400:]!r}')
        return p

    def spawn(self, *argv, **kw):
        def pre():
            os.setsid()
            if self.preexec:
                self.preexec()
        kw.setdefault('stdout', open(os.path.join(self.root, 'daemon.out'), 'ab'))
        p = subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, preexec_fn=pre, **kw)
        self.procs.append(p)
        return p

    def kill_daemon(self, sig=signal.SIGKILL):
        """kill every process of the supervisor itself at once"""
        for p in self.daemon_pids():
            try:
                os.kill(p, sig)
            except ProcessLookupError:
                pass
        for p in self.procs:
            try:
                p.wait(3)
            except subprocess.TimeoutExpired:
                pass


def run_one(t, dcls, keep=False):
    root = tempfile.mkdtemp(prefix=f'faults-{dcls.name}-{t["id"]}-')
    os.chmod(root, 0o755)
    d = dcls(root)
    t0 = time.monotonic()
    try:
        if t['root'] and os.geteuid():
            raise Skip('needs root')
        verdict, facts = t['fn'](d)
    except Skip as e:
        verdict, facts = 'skip', dict(why=str(e))
    except Exception as e:
        verdict, facts = 'error', dict(why=f'{type(e).__name__}: {e}', where=traceback.format_exc().strip().splitlines()[-3:][0].strip())
    finally:
        try:
            d.shutdown()
        except Exception as e:
            print('   shutdown:', e, file=sys.stderr)
        for _ in range(20):                     # again and again: supervisors restart each other
            mine = [p for p in pids() if p != os.getpid() and alive(p) and _belongs(p, root)]
            if not mine:
                break
            kill9(mine)
            time.sleep(0.05)
        for p in d.procs:
            try:
                p.kill(); p.wait(3)
            except Exception:
                pass
        with open('/proc/self/mounts') as f:
            for l in f.read().splitlines()[::-1]:
                if l.split()[1].startswith(root):
                    subprocess.run(['umount', '-l', l.split()[1]])
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
    return dict(driver=dcls.name, id=t['id'], title=t['title'], verdict=verdict, seconds=round(time.monotonic() - t0, 1), facts=facts)


def _belongs(p, root):
    """whether a process is of the test with this scratch folder: by arguments, environment or working directory"""
    try:
        cwd = os.readlink(f'/proc/{p}/cwd')
    except OSError:
        cwd = ''
    return root.encode() in cmdline(p) or ('FAULTS_ROOT=' + root).encode() in environ(p) or cwd == root


def main(argv=None):
    import argparse
    ap = argparse.ArgumentParser(description='Fault battery for pmd; PMD_BIN names the binary.')
    ap.add_argument('--only', default='', help='F01,F03: these alone')
    ap.add_argument('--skip', default='', help='F13: all but these; a run with this is not a full one')
    ap.add_argument('--json', help='write the facts to this file')
    ap.add_argument('--keep', action='store_true', help='keep the scratch folders')
    ap.add_argument('--list', action='store_true')
    a = ap.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *x: sys.exit(143))      # so that clean-up runs
    if a.list:
        for t in TESTS:
            print(t['id'], t['title'], *(['needs root'] if t['root'] else []))
        return 0
    from driver import Pmd
    why = Pmd('/nonexistent').available()
    if why:
        print(f'pmd is not available: {why}')
        return 2
    only = [x for x in a.only.split(',') if x]
    res = []
    for t in TESTS:
        if only and not any(t['id'] == o or t['id'].startswith(o + '-') for o in only):
            continue
        if any(t['id'] == o or t['id'].startswith(o + '-') for o in a.skip.split(',') if o):
            continue
        r = run_one(t, Pmd, a.keep)
        res.append(r)
        print(f'{r["id"]:28s} {r["verdict"]:5s} {r["seconds"]:6.1f}s {json.dumps(r["facts"], default=str)}', flush=True)
    if a.json:
        json.dump(res, open(a.json, 'w'), indent=1, default=str)
    bad = sum(r['verdict'] in ('fail', 'error') for r in res)
    skipped = sum(r['verdict'] == 'skip' for r in res)
    print(f'{len(res) - bad - skipped} passed, {bad} failed, {skipped} skipped')
    return 1 if bad else 3 if skipped else 0
