//! The options of the commands, as plain tables.

use super::{Kind, Opt};

/// Options that every command takes.
pub const GLOBAL: &[Opt] = &[
    Opt::flag("help", "show help").short('h'),
    Opt::flag("version", "show the version").short('V'),
    Opt::flag("json", "one JSON document on stdout, one per line for streams"),
    Opt::flag("quiet", "only errors").short('q'),
    Opt::flag("silent", "only errors").short('s'),
    Opt::value("color", Kind::OneOf(COLORS), "WHEN", "colour: auto, always or never")
        .aliases(&["colour"]),
    Opt::flag("system", "talk to the system daemon"),
    Opt::flag("user", "talk to your own daemon"),
    Opt::value("home", Kind::Text, "DIR", "directory of the daemon, as PMD_HOME"),
    Opt::value("socket", Kind::Text, "PATH", "socket of the daemon, as PMD_SOCKET"),
    Opt::value("timeout", Kind::Duration, "DUR", "longest wait for the daemon's answer"),
    Opt::flag("spawn", "never start a daemon").on(),
];

const COLORS: &[&str] = &["auto", "always", "never"];

const ONLY: Opt =
    Opt::value("only", Kind::Text, "A,B", "with a file: only these of its apps").repeats();
const PARALLEL: Opt = Opt::value("parallel", Kind::Number, "N", "at most this many at a time");
const NO_WAIT: Opt = Opt::flag("wait", "return at once").on();
const LIST: Opt = Opt::flag("list", "print the list afterwards");
const KILL_TIMEOUT: Opt =
    Opt::value("kill-timeout", Kind::Duration, "DUR", "pause between the stop signal and SIGKILL")
        .short('k');
const UPDATE_ENV: Opt =
    Opt::flag("update-env", "take the environment of this shell anew").short('a');
const ENV: Opt =
    Opt::value("env", Kind::Text, "K=V|NAME", "variable; with a file: the profile env_NAME")
        .repeats();
const PORT: Opt =
    Opt::value("port", Kind::Port, "N|A-B|auto:A-B", "port until the next start").short('p');
const YES: Opt = Opt::flag("yes", "do not ask").short('y');
const REVEAL: Opt = Opt::flag("reveal", "show secrets (owner and root only)");
const STRICT: Opt = Opt::flag("strict", "unknown fields of files are errors");

/// Accepted, and not shown.
pub const HIDDEN: &str = "hidden";

const RUN: &str = "Program and environment";
const RESTARTS: &str = "Restarts";
const STOPS: &str = "Stopping, readiness and health";
const LOGS: &str = "Logs and files";

const RESTART_WORDS: &[&str] = &["always", "on-failure", "never"];
const MODES: &[&str] = &["fork", "cluster", "fork_mode", "cluster_mode"];
const LOG_TYPES: &[&str] = &["raw", "json", "logfmt"];

pub const START: &[Opt] = &[
    Opt::value("name", Kind::Text, "NAME", "name (default: file name without extension)")
        .short('n'),
    Opt::value("instances", Kind::Instances, "N|max", "how many").short('i'),
    Opt::value("cwd", Kind::Text, "DIR", "working directory (default: this one)"),
    ENV,
    Opt::flag("once", "a job: run to completion, exit 0 is success"),
    Opt::value("restart", Kind::OneOf(RESTART_WORDS), "WHEN", "always, on-failure or never")
        .under(RESTARTS),
    Opt::flag("shell", "a command line, run by /bin/sh").short('x').aliases(&["execute-command"]),
    Opt::flag("force", "start the same script once more under a new name").short('f'),
    Opt::flag("replace", "same name, new definition: take it over"),
    ONLY,
    NO_WAIT,
    Opt::flag("attach", "follow the logs afterwards"),
    LIST,
    Opt::value("namespace", Kind::Text, "NAME", "group for commands and filters").under(RUN),
    Opt::value("exec-mode", Kind::OneOf(MODES), "fork|cluster", "how instances are run").under(RUN),
    Opt::value(
        "interpreter",
        Kind::Text,
        "PROGRAM",
        "what runs the script; none: the script itself",
    )
    .aliases(&["exec-interpreter"])
    .under(RUN),
    Opt::value("interpreter-args", Kind::Text, "ARGS", "arguments between it and the script")
        .repeats()
        .under(RUN),
    Opt::value("node-args", Kind::Text, "ARGS", "the same, for node").repeats().under(RUN),
    Opt::value("env-file", Kind::Text, "FILE", "file of NAME=value lines, read at every start")
        .repeats()
        .under(RUN),
    Opt::value("filter-env", Kind::Text, "A,B", "do not pass on variables with these in the name")
        .repeats()
        .under(RUN),
    Opt::flag("clean-env", "pass on only PATH, HOME and the like").under(RUN),
    Opt::value("uid", Kind::Text, "USER", "user to run as (root daemon)").under(RUN),
    Opt::value("gid", Kind::Text, "GROUP", "group to run as (root daemon)").under(RUN),
    Opt::value("run-as", Kind::Text, "USER[:GROUP]", "both").under(RUN),
    Opt::value("listen", Kind::Text, "ADDR", "tcp:3000, unix:PATH: pmd opens it, it inherits it")
        .repeats()
        .under(RUN),
    Opt::value("port", Kind::Port, "N|A-B|auto:A-B", "port of each instance, as PORT").under(RUN),
    Opt::value("depends-on", Kind::Text, "A,B[:healthy]", "start after these, stop before them")
        .repeats()
        .under(RUN),
    Opt::flag("autostart", "define, do not start").on().under(RUN),
    STRICT.under(RUN),
    Opt::flag("autorestart", "do not restart").on().under(RESTARTS),
    Opt::value("max-restarts", Kind::Number, "N", "give up after this many short runs; 0: never")
        .under(RESTARTS),
    Opt::value("min-uptime", Kind::Duration, "DUR", "a shorter run counts as failed")
        .under(RESTARTS),
    Opt::value("restart-delay", Kind::Duration, "DUR", "pause before each restart").under(RESTARTS),
    Opt::value(
        "exp-backoff-restart-delay",
        Kind::Duration,
        "DUR",
        "first pause after a short run; grows to 15 s",
    )
    .under(RESTARTS),
    Opt::value("max-memory-restart", Kind::Size, "SIZE", "restart when its tree uses more memory")
        .aliases(&["max-memory"])
        .under(RESTARTS),
    Opt::value("stop-exit-codes", Kind::Codes, "0,64", "exits that are final").under(RESTARTS),
    Opt::value("cron", Kind::Text, "EXPR", "restart at these times: '0 2 * * *', @hourly")
        .short('c')
        .aliases(&["cron-restart"])
        .under(RESTARTS),
    Opt::value("schedule", Kind::Text, "EXPR", "a job: run at these times, and not at start")
        .under(RESTARTS),
    Opt::value("watch", Kind::OptionalText, "PATHS", "restart when files change, here or there")
        .under(RESTARTS),
    Opt::value("ignore-watch", Kind::Text, "A,B", "names and patterns that do not count")
        .repeats()
        .under(RESTARTS),
    Opt::value("watch-delay", Kind::Text, "SEC", "how long nothing more must change (0.2 s)")
        .under(RESTARTS),
    KILL_TIMEOUT.under(STOPS),
    Opt::value("kill-signal", Kind::Signal, "SIG", "first signal of a stop").under(STOPS),
    Opt::flag("treekill", "stop the main process only").on().under(STOPS),
    Opt::flag("wait-ready", "online only when the program reports ready").under(STOPS),
    Opt::value("listen-timeout", Kind::Duration, "DUR", "how long to wait for that").under(STOPS),
    Opt::value(
        "health-http",
        Kind::Text,
        "URL",
        "healthy while it answers 2xx; ${PORT} is its port",
    )
    .aliases(&["health-check-url"])
    .under(STOPS),
    Opt::value("health-tcp", Kind::Text, "HOST:PORT", "healthy while it can be connected to")
        .under(STOPS),
    Opt::value("health-cmd", Kind::Text, "CMD", "healthy while this ends with exit code 0")
        .aliases(&["health-check-script"])
        .under(STOPS),
    Opt::value("health-interval", Kind::Duration, "DUR", "pause between checks").under(STOPS),
    Opt::value("health-timeout", Kind::Duration, "DUR", "a check that takes longer has failed")
        .under(STOPS),
    Opt::value("health-retries", Kind::Number, "N", "failures in a row that make it unhealthy")
        .aliases(&["health-check-retries"])
        .under(STOPS),
    Opt::value("health-start-period", Kind::Duration, "DUR", "failures after a start do not count")
        .under(STOPS),
    // PMDaemon's: a bare number is seconds.
    // Of PM2, where they mean nothing to pmd.
    Opt::flag("vizion", "no effect").on().under(HIDDEN),
    Opt::flag("source-map-support", "no effect").under(HIDDEN),
    Opt::flag("disable-source-map-support", "no effect").under(HIDDEN),
    Opt::flag("deep-monitoring", "no effect").under(HIDDEN),
    Opt::flag("trace", "no effect").under(HIDDEN),
    Opt::flag("disable-trace", "no effect").under(HIDDEN),
    Opt::flag("v8", "no effect").under(HIDDEN),
    Opt::value("health-check-interval", Kind::Text, "DUR", "pause between checks").under(HIDDEN),
    Opt::value("health-check-timeout", Kind::Text, "DUR", "longest check").under(HIDDEN),
    Opt::value("output", Kind::Text, "FILE", "file for stdout")
        .short('o')
        .aliases(&["out-file"])
        .under(LOGS),
    Opt::value("error", Kind::Text, "FILE", "file for stderr; with K=V: --env")
        .short('e')
        .aliases(&["error-file"])
        .repeats()
        .under(LOGS),
    Opt::value("log", Kind::Text, "FILE", "file for both")
        .short('l')
        .aliases(&["log-file"])
        .under(LOGS),
    Opt::value("pid", Kind::Text, "FILE", "pid file; with digits: --port")
        .short('p')
        .aliases(&["pid-file"])
        .repeats()
        .under(LOGS),
    Opt::flag("merge-logs", "instances share their files").under(LOGS),
    Opt::value("log-target", Kind::Text, "A,B", "files, memory, none, journald, syslog")
        .repeats()
        .under(LOGS),
    Opt::value("log-type", Kind::OneOf(LOG_TYPES), "raw|json|logfmt", "form of the lines")
        .under(LOGS),
    Opt::flag("time", "a time before every line").under(LOGS),
    Opt::value("log-date-format", Kind::Text, "PATTERN", "the form of that time").under(LOGS),
    Opt::flag("disable-logs", "no files").under(LOGS),
    Opt::value("log-max-size", Kind::Size, "SIZE", "rotate before a file is larger").under(LOGS),
    Opt::value("log-keep", Kind::Number, "N", "rotated files kept").under(LOGS),
];

pub const STOP: &[Opt] = &[KILL_TIMEOUT, PARALLEL, NO_WAIT, ONLY, LIST];

pub const RESTART: &[Opt] =
    &[UPDATE_ENV, ENV, PORT, KILL_TIMEOUT, PARALLEL, NO_WAIT, ONLY, STRICT, LIST];

pub const RELOAD: &[Opt] = &[UPDATE_ENV, ENV, PORT, PARALLEL, NO_WAIT, ONLY, STRICT, LIST];

pub const DELETE: &[Opt] = &[
    Opt::flag("purge-logs", "remove the log files too"),
    YES,
    KILL_TIMEOUT,
    PARALLEL,
    NO_WAIT,
    ONLY,
    LIST,
];

pub const SCALE: &[Opt] = &[NO_WAIT, LIST];

pub const APPLY: &[Opt] = &[
    Opt::flag("dry-run", "print what would be done; exit 1 if anything").aliases(&["diff"]),
    Opt::flag("prune", "delete what this file no longer has"),
    Opt::value("env", Kind::Text, "NAME", "profile env_NAME").repeats(),
    ONLY,
    Opt::flag("restart", "leave running what has changed").on(),
    STRICT,
];

pub const LIST_OPTIONS: &[Opt] = &[
    Opt::flag("wide", "all columns, whatever the width").short('w'),
    Opt::flag("mini-list", "only id, name and status").short('m'),
    Opt::value("sort", Kind::Text, "FIELD[:desc]", "by name, status, uptime, cpu, memory, ..."),
    Opt::value("status", Kind::Text, "S", "only processes with this status"),
    Opt::value("namespace", Kind::Text, "N", "only processes of this namespace"),
    Opt::value("columns", Kind::Text, "A,B", "these columns, in this order").repeats(),
    Opt::flag("header", "without the line of headings").on(),
    Opt::value("refresh", Kind::OptionalDuration, "[DUR]", "print anew again and again (2s)"),
];

pub const SHOW: &[Opt] = &[Opt::flag("env", "with its environment"), REVEAL];

pub const LOG_OPTIONS: &[Opt] = &[
    Opt::value("lines", Kind::Number, "N", "how many lines of each first (15)")
        .short('n')
        .aliases(&["tail"]),
    Opt::flag("follow", "end after these lines").on(),
    Opt::flag("nostream", "the same as --no-follow"),
    Opt::flag("err", "only stderr"),
    Opt::flag("out", "only stdout"),
    Opt::flag("raw", "only what the programs wrote, byte by byte"),
    Opt::flag("time", "no times").on(),
    Opt::value("since", Kind::Text, "DUR|TIME", "only lines after this"),
    Opt::value("until", Kind::Text, "DUR|TIME", "only lines before this; does not follow"),
    Opt::value("grep", Kind::Text, "TEXT", "only lines with this text"),
    Opt::value("highlight", Kind::Text, "TEXT", "mark this text"),
    Opt::flag("daemon", "the daemon's own log"),
];

pub const EVENTS: &[Opt] = &[
    Opt::flag("follow", "wait for more").short('f'),
    Opt::value("since", Kind::Text, "DUR|TIME", "only events after this"),
    Opt::flag("channel", "what programs say over their channel, as it comes"),
];

pub const REVEALING: &[Opt] = &[REVEAL];

const WAITABLE: &[&str] = &["online", "ready", "healthy", "stopped", "done"];

pub const WAIT: &[Opt] =
    &[Opt::value("for", Kind::OneOf(WAITABLE), "STATE", "online, ready, healthy, stopped or done")];

pub const SAVE: &[Opt] = &[Opt::flag("force", "accepted, and not needed").short('f')];

pub const RESURRECT: &[Opt] =
    &[Opt::flag("from-pm2", "move the programs of PM2 here; its daemon is ended"), YES];

pub const LINKS: &[Opt] = &[Opt::flag("force", "replace what is there").short('f')];

pub const LINK: &[Opt] =
    &[Opt::value("info-node", Kind::Text, "URL", "the root that says where to connect")];

pub const EXPORT: &[Opt] =
    &[Opt::value("format", Kind::Text, "FORMAT", "json, pm2, compose or systemd (json)")];

const INIT_FORMATS: &[&str] = &["json"];

pub const INIT: &[Opt] = &[
    Opt::value("format", Kind::OneOf(INIT_FORMATS), "json", "form of the file"),
    Opt::flag("force", "overwrite a file that exists").short('f'),
];

pub const CHECK: &[Opt] =
    &[Opt::value("env", Kind::Text, "NAME", "profile env_NAME").repeats(), ONLY, STRICT];

const LEVELS: &[&str] = &["full", "read", "none"];

pub const DAEMON: &[Opt] = &[
    Opt::flag("foreground", "stay in the foreground, log to stderr"),
    Opt::flag("pm2", "without the sockets that PM2's clients look for").on(),
    Opt::flag("keeper", "nobody starts it again when it crashes").on(),
    Opt::value("web", Kind::Text, "ADDR:PORT", "where the web interface listens").repeats(),
    Opt::flag("no-web", "without the web interface"),
    Opt::value("web-token-file", Kind::Text, "FILE", "the token for it, in a file of mode 0600"),
    Opt::value("web-allow-origin", Kind::Text, "ORIGIN", "pages of there may connect").repeats(),
    Opt::value("web-allow-host", Kind::Text, "NAME", "a name it answers to").repeats(),
    Opt::value("web-anonymous", Kind::OneOf(LEVELS), "LEVEL", "what is allowed without a token"),
    Opt::value("ready-fd", Kind::Number, "N", "where to tell that it is up").under(HIDDEN),
    Opt::value("keeper-fd", Kind::Number, "N", "where its keeper is").under(HIDDEN),
];

pub const RUN_OPTIONS: &[Opt] = &[
    of_start("name"),
    of_start("instances"),
    of_start("cwd"),
    ENV,
    of_start("once"),
    of_start("restart"),
    of_start("shell"),
    ONLY,
    Opt::value("stop-timeout", Kind::Duration, "DUR", "kill what is left then (default: 9s)"),
    Opt::flag("auto-exit", "stay when nothing is left to run").on(),
    Opt::flag("control", "open the control socket, for pmd ls and the like"),
    Opt::value("web", Kind::OptionalText, "ADDR:PORT", "open the web interface"),
    Opt::flag("raw", "lines of several apps without their names"),
    Opt::flag("format", "lines as key=value pairs"),
    of_start("interpreter"),
    of_start("interpreter-args"),
    of_start("node-args"),
    of_start("env-file"),
    of_start("clean-env"),
    of_start("port"),
    of_start("uid"),
    of_start("gid"),
    of_start("autorestart"),
    of_start("max-restarts"),
    of_start("min-uptime"),
    of_start("restart-delay"),
    of_start("exp-backoff-restart-delay"),
    of_start("max-memory-restart"),
    of_start("stop-exit-codes"),
    of_start("cron"),
    of_start("schedule"),
    of_start("watch"),
    of_start("ignore-watch"),
    of_start("watch-delay"),
    of_start("kill-timeout"),
    of_start("kill-signal"),
    of_start("wait-ready"),
    of_start("listen-timeout"),
    of_start("health-http"),
    of_start("health-tcp"),
    of_start("health-cmd"),
    of_start("health-interval"),
    of_start("health-timeout"),
    of_start("health-retries"),
    of_start("health-start-period"),
    STRICT.under(RUN),
];

/// The option of `start` with this name, so that both commands mean the same by it.
const fn of_start(long: &str) -> Opt {
    let mut at = 0;
    while at < START.len() {
        if is_same(START[at].long, long) {
            return START[at];
        }
        at += 1;
    }
    // Reached while compiling, if ever.
    #[expect(clippy::panic, reason = "evaluated by the compiler")]
    {
        panic!("start has no such option")
    }
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

pub const KILL: &[Opt] = &[Opt::flag("leave-running", "the programs go on"), YES];
