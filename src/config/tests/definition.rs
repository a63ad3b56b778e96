//! A definition resolves to the spec it was made from, whatever that spec is.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::base::Signal;
use crate::config::{definition, effective};
use crate::supervisor::schedule::Schedule;
use crate::supervisor::spec::{
    Address, Check, ClusterPolicy, Condition, Dependency, ExecMode, HealthCheck, Intercom, Ipc,
    Limits, LogBoth, LogFormat, LogFull, LogSpec, LogTarget, OnDaemonLoss, OnFail, Overlap, Ports,
    Restart, Serving, Stdin, Terms,
};

const WORDS: [&str; 12] =
    ["web", "a b", "it's", "--x=1", "${HOME}", "$$", "ä", "\"q\"", "\\", "x,y", "Ω 1", "0"];

impl Random {
    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.chance() { Some(make(self)) } else { None }
    }

    fn words(&mut self) -> Vec<String> {
        (0..self.below(4)).map(|_| (*self.pick(&WORDS)).to_owned()).collect()
    }

    fn name(&mut self) -> String {
        format!("{}{}", self.pick(&["web", "api-1", "ä.b", "a b", "x_y"]), self.below(100))
    }

    fn path(&mut self) -> PathBuf {
        let names =
            ["/nonexistent/a.js", "/nonexistent/b", "/no/my app.py", "/no/x.sh", "/no/ä.rb"];
        PathBuf::from(self.pick(&names))
    }

    fn time(&mut self) -> Duration {
        Duration::from_millis(self.next() >> (self.below(40) + 20))
    }

    fn target(&mut self) -> LogTarget {
        match self.below(3) {
            0 => LogTarget::Default,
            1 => LogTarget::Nowhere,
            _ => LogTarget::File(self.path()),
        }
    }

    fn logs(&mut self) -> LogSpec {
        let in_memory = self.below(4) == 0;
        let mut target = || if in_memory { LogTarget::Memory } else { self.target() };
        let (out, error) = (target(), target());
        LogSpec {
            out,
            error,
            both: match self.below(3) {
                _ if in_memory => LogBoth::No,
                0 => LogBoth::No,
                1 => LogBoth::Default,
                _ => LogBoth::File(self.path()),
            },
            format: *self.pick(&[LogFormat::Raw, LogFormat::Json, LogFormat::Logfmt]),
            date: self.maybe(|random| (*random.pick(&["YYYY", "[at] HH:mm"])).to_owned()),
            merge: self.chance(),
            journald: self.chance(),
            syslog: self.chance(),
            max_size: self.maybe(|random| random.next() >> 20),
            keep: self.maybe(|random| u32::try_from(random.below(10_000)).unwrap()),
            full: self.maybe(|random| *random.pick(&[LogFull::Drop, LogFull::Block])),
        }
    }

    fn depends_on(&mut self) -> Vec<Dependency> {
        let conditions = [Condition::Started, Condition::Ready, Condition::Done];
        let all_ready = self.chance();
        let mut list: Vec<Dependency> = (0..self.below(4))
            .map(|_| Dependency {
                name: self.name(),
                condition: if all_ready { Condition::Ready } else { *self.pick(&conditions) },
            })
            .collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list.dedup_by(|a, b| a.name == b.name);
        list
    }

    fn small(&mut self, least: i32, most: i32) -> i32 {
        least + i32::try_from(self.below(usize::try_from(most - least).unwrap())).unwrap()
    }

    fn serving(&mut self) -> Option<Box<Serving>> {
        let port = *self.pick(&["3000", "3000-5000", "auto:3000-5000"]);
        let check = match self.below(5) {
            0 => Check::Http("http://localhost:${PORT}/a?b".to_owned()),
            1 => Check::Tcp { host: "::1".to_owned(), port: Some(1) },
            2 => Check::Tcp { host: "db".to_owned(), port: None },
            3 => Check::Script(vec!["/bin/sh".to_owned(), "-c".to_owned(), "a | b".to_owned()]),
            _ => Check::Script(vec!["x y".to_owned()]),
        };
        let on_fail = *self.pick(&[OnFail::Restart, OnFail::None]);
        let retries = u32::try_from(self.below(5) + 1).unwrap();
        let times = [self.time(), self.time(), self.time()];
        let least = Duration::from_millis(10);
        let health = self.maybe(|_| HealthCheck {
            check,
            interval: times[0].max(least),
            timeout: times[1].max(least),
            retries,
            start_period: times[2],
            on_fail,
        });
        self.maybe(|_| Box::new(Serving { port: Ports::parse(port), health }))
    }

    fn listen(&mut self) -> Vec<Address> {
        let all = ["tcp:80", "tcp:[::1]:81", "udp:127.0.0.1:53", "unix:/run/a b.sock"];
        let first = self.below(4);
        let count = self.below(4);
        all.iter().skip(first).take(count).map(|text| Address::parse(text).unwrap()).collect()
    }

    /// Whatever may be one is a cluster half of the time.
    fn clustered(&mut self, mut spec: AppSpec) -> AppSpec {
        let knows = spec.interpreter.as_deref() == Some("node");
        let has_channel = matches!(spec.ipc, Ipc::Auto | Ipc::Node);
        let has_own = matches!(spec.ports(), Some(Ports::One(_)));
        if knows && has_channel && !has_own && self.chance() {
            spec.exec_mode = ExecMode::Cluster;
        }
        spec
    }

    fn spec(&mut self) -> AppSpec {
        let interpreter = self.maybe(|random| {
            (*random.pick(&["node", "python3", "/opt/bin/x y", "no-such-one"])).to_owned()
        });
        // Only a script that runs by itself may be a bare command.
        let script = if interpreter.is_none() && self.chance() {
            (*self.pick(&["no-such-command", "sh", "c++filt2"])).to_owned()
        } else {
            self.path().to_str().unwrap().to_owned()
        };
        let mut env: Environment =
            self.words().into_iter().map(|word| (format!("V{word}"), word)).collect();
        env = env.iter().filter(|(name, _)| !name.contains('=')).collect();
        env.set("PYTHONUNBUFFERED", "1");
        let user = |random: &mut Self| (*random.pick(&["www", "1000"])).to_owned();
        let exit_codes = self.below(5);
        let (name, args) = (self.name().into(), self.words().iter().collect());
        let cwd = Path::new(self.pick(&["/nonexistent", "/srv/a b", "/${x}"])).into();
        let restart =
            *self.pick(&[Restart::Always, Restart::OnFailure, Restart::Never, Restart::Once]);
        let is_job = restart == Restart::Once;
        let schedule = self.maybe(|random| {
            let times = ["@daily", "*/5 * * * * *", "0 2 1,15 jan-mar mon"];
            Schedule::parse(random.pick::<&str>(&times)).unwrap()
        });
        let (schedule, cron_restart) = match is_job {
            true => (schedule, None),
            false => (None, schedule),
        };
        let terms = Terms {
            overlap: match schedule {
                Some(_) => *self.pick(&[Overlap::Skip, Overlap::Kill, Overlap::Queue]),
                None => Overlap::Skip,
            },
            timeout: self.maybe(|it| it.time() + Duration::from_millis(1)).filter(|_| is_job),
            cron_restart,
            schedule,
            watch: (0..self.below(3))
                .map(|_| (*self.pick(&["/srv/a b", "/srv/**/*.js", "/"])).to_owned())
                .collect(),
            ignore_watch: (0..self.below(3))
                .map(|_| (*self.pick(&["*.log", "a/b", "tmp x"])).to_owned())
                .collect(),
            watch_delay: self.time(),
            on_event: self.maybe(|_| vec!["/bin/mail it".to_owned()]).unwrap_or_default(),
            namespace: self.name().into(),
            interpreter,
            interpreter_args: self.words().iter().collect(),
            pmx: self.chance(),
            env_file: (0..self.below(3)).map(|_| self.path()).collect(),
            inherit_env: true,
            secret_env: self.words(),
            user: self.maybe(user),
            group: self.maybe(user),
            umask: self.maybe(|random| u32::try_from(random.below(0o1000)).unwrap()),
            nice: self.maybe(|random| random.small(-20, 19)),
            oom_score_adj: self.maybe(|random| random.small(-1000, 1000)),
            limits: Limits {
                nofile: self.maybe(|random| random.next() >> 1),
                nproc: self.maybe(|random| random.next() >> 20),
                core: self.maybe(|random| random.next() >> 20),
                address_space: self.maybe(|random| random.next() >> 20),
                memory: self.maybe(|random| random.next() >> 20),
                cpu: self.maybe(|random| random.next() >> 40 | 1),
                pids: self.maybe(|random| random.next() >> 40 | 1),
            },
            stdin: *self.pick(&[Stdin::Null, Stdin::Pipe]),
            instances: u32::try_from(self.below(1024) + 1).unwrap(),
            instance_var: (*self.pick(&["NODE_APP_INSTANCE", "I"])).to_owned(),
            increment_var: self.maybe(|_| "PORT".to_owned()),
            exec_mode: ExecMode::Fork,
            cluster_policy: self
                .maybe(|random| *random.pick(&[ClusterPolicy::Shared, ClusterPolicy::RoundRobin])),
            listen: self.listen(),
            autostart: self.chance(),
            restart,
            stop_exit_codes: (0..exit_codes).map(|code| u8::try_from(code * 50).unwrap()).collect(),
            max_restarts: u32::try_from(self.next() >> 32).unwrap(),
            min_uptime: self.time(),
            restart_delay: self.time(),
            exp_backoff_restart_delay: self.time(),
            max_memory_restart: self.maybe(|random| (random.next() >> 20) + 1),
            kill_signal: Signal::new(i32::try_from(self.below(31)).unwrap() + 1).unwrap(),
            kill_timeout: self.time(),
            treekill: self.chance(),
            on_daemon_loss: *self.pick(&[OnDaemonLoss::Keep, OnDaemonLoss::Kill]),
            shutdown_with_message: self.chance(),
            ipc: *self.pick(&[Ipc::Auto, Ipc::Node, Ipc::Fd, Ipc::Off]),
            ipc_raw: self.chance(),
            ipc_delimiter: self.maybe(|random| random.pick(&[".", ":", "/"]).to_string()),
            ipc_wildcard: self.chance(),
            intercom: *self.pick(&[Intercom::Auto, Intercom::Eager, Intercom::Off]),
            max_runs: self.maybe(|random| u32::try_from(random.below(9)).unwrap()),
            spin_sleep: self.maybe(Self::time),
            ipc_max_line: self.next() % (64 << 20) + 1,
            ipc_max_queue: self.next() % (64 << 20) + 1,
            wait_ready: self.chance(),
            notify: self.chance(),
            notification_fd: self.maybe(|random| u32::try_from(random.below(1000)).unwrap() + 13),
            listen_timeout: self.time(),
            serving: self.serving(),
            depends_on: self.depends_on(),
            essential: self.chance(),
            logs: self.logs(),
            pid_file: self.maybe(Self::path),
            backoff_always: false,
            unstable_window: false,
        };
        self.clustered(AppSpec {
            name,
            script: script.into(),
            args,
            cwd,
            inherited: caller(),
            env,
            pm2: None,
            source: None,
            terms: Rc::new(terms),
        })
    }
}

#[test]
fn a_definition_resolves_to_its_spec() {
    let mut random = Random(0x5eed_0001);
    for round in 0..3000 {
        let mut spec = random.spec();
        if random.chance() {
            spec.inherit_env = false;
            spec.inherited = Rc::new(crate::config::base_environment(&spec.inherited));
        }
        let fields = Value::from(definition(&spec));
        // As it travels: through text.
        let fields: Value = serde_json::from_str(&fields.to_string()).unwrap();
        let origin = Origin {
            dialect: Dialect::Client,
            dir: Path::new("/"),
            environment: &spec.inherited,
            profile: None,
            source: None,
            file: None,
            strict: true,
            defaults: &DEFAULTS,
        };
        let resolved = crate::config::app(fields.as_object().unwrap(), &origin);
        assert_eq!(lines(&resolved.problems), [""; 0], "round {round}: {fields}");
        assert_eq!(resolved.apps[0], spec, "round {round}: {fields}");
    }
}

#[test]
fn a_definition_comes_back_from_the_state_file() {
    let mut random = Random(0x5eed_0002);
    for round in 0..1000 {
        let mut spec = random.spec();
        // It is written beside the definitions that share it.
        spec.inherited = Rc::default();
        let text = serde_json::to_string(&spec).unwrap();
        let again: AppSpec = serde_json::from_str(&text).unwrap();
        assert_eq!(again, spec, "round {round}: {text}");
        assert_eq!(again.differences(&spec), [""; 0]);
    }
}

#[test]
fn what_is_usual_is_not_said() {
    let spec = only("pmd.json", r#"{"script": "./server", "kill_timeout": "1.6s"}"#);
    let said = Value::from(definition(&spec)).to_string();
    assert_eq!(
        said,
        r#"{"cwd":"/srv","inherit_env":false,"name":"server","script":"/srv/server"}"#
    );
    // A script that would ask for an interpreter says that it has none.
    let spec = only("pmd.json", r#"{"script": "x.js", "interpreter": "none"}"#);
    assert_eq!(definition(&spec)["interpreter"], "none");
}

#[test]
fn what_is_shown_has_everything_but_secrets() {
    let text = r#"{"script": "a", "args": ["--db", "pg://u:p@h/d"], "secret_env": ["X"],
        "env": {"API_KEY": "k", "X": "x", "PORT": "1", "URL": "redis://:pw@h"}}"#;
    let shown = effective(&only("pmd.json", text));
    assert_eq!(
        shown["env"],
        serde_json::json!({"API_KEY": "***", "X": "***", "PORT": "1", "URL": "redis://:***@h"})
    );
    assert_eq!(shown["args"][1], "pg://u:***@h/d");
    for field in ["kill_timeout", "treekill", "namespace", "log_type", "pid_file", "depends_on"] {
        assert!(shown.contains_key(field), "{field}");
    }
}
