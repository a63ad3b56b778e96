"""pmd as the fault battery drives it: the daemon in the foreground, commands for everything else.

  PMD_BIN                        path of the binary (default: pmd in PATH)
  daemon                         pmd daemon --foreground --home HOME --no-web
  pmd start FILE.json            {"apps":[{name, script, args, interpreter:"none", cwd, env, autorestart, kill_timeout}]}
  pmd start|stop|delete NAME, list, jlist, save, resurrect, kill

A killed daemon is revived by starting it again and `pmd resurrect`: it must adopt what still runs. By default every
process of pmd is killed, a keeper above the daemon first; kill_main() leaves a (stopped) keeper with what it holds.
"""
import glob, json, os, shutil, signal, socket, time
from harness import Broken, Driver, alive, cmdline, environ, pids, stat, wait

# What PM2's list, which jlist prints, calls a state.
STATES = {'online': 'running', 'errored': 'failed', 'launching': 'starting', 'waiting restart': 'backoff'}


class Pmd(Driver):
    name = 'pmd'
    first_command = ['resurrect']         # a command that starts the daemon when none runs (ping never does)

    def __init__(self, root):
        super().__init__(root)
        self.home = os.path.join(root, 'home')
        self.bin = os.environ.get('PMD_BIN', 'pmd')
        for k in ('PM2_HOME', 'PMD_SOCKET', 'PMD_APPS'):
            self.env.pop(k, None)
        self.env.update(PMD_HOME=self.home, PMD_WEB='off', FAULTS_ROOT=root)

    def available(self):
        return None if shutil.which(self.bin) else f'{self.bin} not found; PMD_BIN names the binary'

    def cli(self, *a, **kw):
        return self.run(self.bin, *a, **kw)

    # ---- the daemon
    def start_daemon(self):
        os.makedirs(self.home, 0o700, exist_ok=True)
        p = self.spawn(self.bin, 'daemon', '--foreground', '--home', self.home, '--no-web')

        def up():
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(self.control_socket())
                return True
            except OSError:
                return p.poll() is not None
            finally:
                s.close()
        if not wait(up, 10) or p.poll() is not None:
            raise Broken('daemon did not come up: ' + open(os.path.join(self.root, 'daemon.out'), 'rb').read()[-300:].decode('utf-8', 'replace'))

    def control_socket(self):
        return os.path.join(self.home, 'pmd.sock')

    def shutdown(self):
        if self.daemon_pids():
            self.cli('kill', timeout=30)

    # ---- services
    # more fields for each app
    app_fields = {}

    def add(self, name, argv, autorestart=True, cwd=None, env=None):
        f = os.path.join(self.root, 'app-%d.json' % len(glob.glob(self.root + '/app-*.json')))
        app = dict(name=name, script=argv[0], args=argv[1:], interpreter='none', exec_mode='fork', autorestart=autorestart,
                   kill_timeout=int(self.kill_grace * 1000), cwd=cwd or self.root, env=env or {}, **self.app_fields)
        with open(f, 'w') as o:
            json.dump({'apps': [app]}, o)
        p = self.cli('start', f)
        self.cli('save', '--force')
        return p

    def start(self, name): return self.cli('start', name)
    def stop(self, name, timeout=30): return self.cli('stop', name, timeout=timeout)
    def delete(self, name): return self.cli('delete', name)

    def status(self, name):
        p = self.cli('jlist', timeout=20)
        try:
            s = p.stdout.decode('utf-8', 'replace')
            for a in json.loads(s[s.index('['):]):
                if a['name'] == name:
                    st = a['pm2_env']['status']
                    return dict(state=STATES.get(st, st), pid=a['pid'] or None, restarts=a['pm2_env'].get('restart_time'))
        except (ValueError, KeyError):
            pass
        return {}

    def list_raw(self): return self.cli('list').stdout
    def log_dir(self): return os.path.join(self.home, 'logs')

    def log(self, name):
        n = name.replace(' ', '-')
        return b''.join(open(f, 'rb').read() for f in sorted(glob.glob(f'{glob.escape(self.log_dir())}/{glob.escape(n)}-out*.log')))

    # ---- which processes are pmd's own
    def _exe(self, pid):
        try:
            return os.readlink(f'/proc/{pid}/exe').replace(' (deleted)', '')
        except OSError:
            return None

    def mains(self):
        """processes of the binary that hold a listening control socket of this home"""
        exe, ino = os.path.realpath(shutil.which(self.bin) or self.bin), set()
        for l in open('/proc/net/unix').read().splitlines()[1:]:
            f = l.split()
            if len(f) > 7 and int(f[3], 16) & 0x10000 and f[7] == self.control_socket():
                ino.add(f'socket:[{f[6]}]')
        out = []
        for p in pids():
            if self._exe(p) == exe and alive(p):
                try:
                    if any(os.readlink(f'/proc/{p}/fd/{n}') in ino for n in os.listdir(f'/proc/{p}/fd')):
                        out.append(p)
                except OSError:
                    pass
        return sorted(out)

    def keepers(self):
        m = self.mains()
        up = {(stat(p) or {}).get('ppid') for p in m}
        t = ('PMD_HOME=' + self.home + '\0').encode()
        return [p for p in pids() if p not in m and alive(p) and (
            (p in up and self._exe(p) == self._exe(m[0])) or (cmdline(p).startswith(b'pmd: keeper') and t in environ(p)))]

    def daemon_pids(self):
        return self.mains() + self.keepers()

    # ---- the daemon dies
    def kill_daemon(self, sig=signal.SIGKILL):
        for _ in range(3):
            for p in self.keepers() + self.mains():          # the keeper first, or it starts the daemon again
                try:
                    os.kill(p, sig)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)
            if sig != signal.SIGKILL or not self.daemon_pids():
                break
        self._reap()

    def kill_main(self):
        self._stopped = self.keepers()
        for p in self._stopped:
            os.kill(p, signal.SIGSTOP)
        for p in self.mains():
            os.kill(p, signal.SIGKILL)

    def _reap(self):
        for p in self.procs:
            if p.poll() is None:
                try:
                    p.wait(1)
                except Exception:
                    pass

    def revive(self):
        held = getattr(self, '_stopped', [])
        for p in held:
            try:
                os.kill(p, signal.SIGCONT)
            except ProcessLookupError:
                pass
        self._stopped = []
        if held:
            wait(self.mains, 12)                              # the keeper starts it
        if not self.mains():
            self.start_daemon()
        return self.cli('resurrect')
