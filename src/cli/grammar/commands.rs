//! The table of the commands.

use super::options as o;
use super::{Command, Count, Group, Opt, Rest};
use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::commands as c;
use crate::cli::session::Session;

/// Every command, in the order of the help.
pub const COMMANDS: &[Command] = &[
    command("start", Group::Act, c::start::run)
        .takes("[what...]", Count::Any)
        .rest()
        .about("Start programs, scripts or configuration files, or start known processes again")
        .options(o::START)
        .examples(["pmd start app.js -i 2 -- --port 3000", "pmd start 'npm run dev' --name web"]),
    command("stop", Group::Act, c::act::stop)
        .takes("<targets...>", Count::AtLeastOne)
        .about("Stop processes and all they started")
        .options(o::STOP)
        .examples(["pmd stop web", "pmd stop 'api-*' -k 10s"]),
    command("restart", Group::Act, c::act::restart)
        .takes("<targets...>", Count::AtLeastOne)
        .about("Stop processes, then start them again")
        .options(o::RESTART)
        .examples(["pmd restart web", "PORT=3001 pmd restart web --update-env"]),
    command("reload", Group::Act, c::act::reload)
        .takes("<targets...>", Count::AtLeastOne)
        .about("Replace processes one instance after the other, the new one ready first")
        .options(o::RELOAD)
        .examples(["pmd reload web", "pmd reload all"]),
    command("delete", Group::Act, c::act::delete)
        .aliases(&["del", "rm"])
        .takes("<targets...>", Count::AtLeastOne)
        .about("Stop processes and forget them")
        .options(o::DELETE)
        .examples(["pmd delete web", "pmd delete all -y"]),
    command("scale", Group::Act, c::act::scale)
        .takes("<name> <N|+N|-N>", Count::TargetAndNumber)
        .about("Change the number of instances")
        .options(o::SCALE)
        .examples(["pmd scale web 4", "pmd scale web +1"]),
    command("signal", Group::Act, c::act::signal)
        .aliases(&["sendSignal"])
        .takes("<signal> <targets...>", Count::AtLeastTwo)
        .about("Send a signal to the main process")
        .examples(["pmd signal SIGHUP web", "pmd signal USR2 all"]),
    command("reset", Group::Act, c::act::reset)
        .takes("<targets...>", Count::AtLeastOne)
        .about("Set the restart counters to zero")
        .examples(["pmd reset web", "pmd reset all"]),
    command("send", Group::Act, c::act::send)
        .takes("<target> <line...>", Count::AtLeastTwo)
        .about("Write a line to the standard input of a process")
        .examples(["pmd send game 'save-all'", "pmd send repl 1 + 1"]),
    command("trigger", Group::Act, c::act::trigger)
        .takes("<target> <action> [parameter]", Count::AtLeastTwo)
        .about("Have programs carry out an action, and print their answers")
        .examples(["pmd trigger web heapdump", "pmd trigger all log-level debug"]),
    command("ipc", Group::Act, c::ipc::run)
        .takes("<emit|request|call|send|disconnect> <target> [words...]", Count::AtLeastTwo)
        .about("Say something to programs over their channel, or ask them")
        .examples(["pmd ipc request web question 41", "pmd ipc send web '{\"type\":\"hello\"}'"]),
    command("ipevents", Group::Act, c::ipc::ipevents)
        .takes("<peers|send> [type] [to] [event] [values...]", Count::AtLeastOne)
        .about("Show who is on the hub of ipevents, or say something there")
        .examples(["pmd ipevents peers", "pmd ipevents send broadcast reload 1"]),
    command("apply", Group::Act, c::apply::run)
        .aliases(&["startOrReload", "startOrRestart", "startOrGracefulReload"])
        .takes("[file...]", Count::Any)
        .about("Make the daemon match a configuration file")
        .options(o::APPLY)
        .examples(["pmd apply pmd.json --dry-run", "pmd apply pmd.json --prune"]),
    command("run", Group::Act, c::run::run)
        .aliases(&["runtime"])
        .takes("[file|script]", Count::AtMostOne)
        .rest()
        .about("Run programs in the foreground, as the first process of a container")
        .options(o::RUN_OPTIONS)
        .examples(["pmd run pmd.json", "pmd run server.js -- --port 3000"]),
    command("list", Group::Look, c::list::run)
        .aliases(&["ls", "l", "ps", "status"])
        .takes("[targets...]", Count::Any)
        .about("List processes")
        .options(o::LIST_OPTIONS)
        .examples(["pmd ls", "pmd ls --status errored --json"]),
    command("show", Group::Look, c::look::show)
        .aliases(&["describe", "desc", "info", "inspect"])
        .takes("<targets...>", Count::AtLeastOne)
        .about("Show all about a process")
        .options(o::SHOW)
        .examples(["pmd show web", "pmd show web --env --json"]),
    command("logs", Group::Look, c::logs::run)
        .aliases(&["log"])
        .takes("[targets...]", Count::Any)
        .about("Show the last lines that programs wrote, then follow")
        .options(o::LOG_OPTIONS)
        .examples(["pmd logs web --err", "pmd logs --since 10m --grep timeout --no-follow"]),
    command("events", Group::Look, c::events::run)
        .takes("[targets...]", Count::Any)
        .about("Show what happened to processes")
        .options(o::EVENTS)
        .examples(["pmd events -f web", "pmd events --channel --json"]),
    command("env", Group::Look, c::look::env)
        .takes("<target>", Count::ExactlyOne)
        .about("Show the environment of a process, secrets masked")
        .options(o::REVEALING)
        .examples(["pmd env web", "pmd env web --reveal"]),
    command("pid", Group::Look, c::look::pid)
        .takes("[targets...]", Count::Any)
        .about("Print process ids, one a line")
        .examples(["pmd pid web", "kill -USR1 $(pmd pid web)"]),
    command("id", Group::Look, c::look::id)
        .takes("<targets...>", Count::AtLeastOne)
        .about("Print the ids in the list, one a line")
        .examples(["pmd id web", "pmd id all"]),
    command("jlist", Group::Look, c::look::jlist)
        .takes("", Count::None)
        .about("Print PM2's JSON list")
        .options(o::REVEALING)
        .examples(["pmd jlist", "pmd jlist | jq '.[].name'"]),
    command("slist", Group::Look, c::look::slist)
        .aliases(&["sysinfos"])
        .takes("", Count::None)
        .about("Show what the host and the daemon use")
        .examples(["pmd slist", "pmd slist --json | jq .load.one"]),
    command("prettylist", Group::Look, c::look::prettylist)
        .takes("", Count::None)
        .about("Print PM2's JSON list, indented")
        .options(o::REVEALING)
        .examples(["pmd prettylist", "pmd prettylist --reveal"]),
    command("is-online", Group::Script, c::script::is_online)
        .takes("<targets...>", Count::AtLeastOne)
        .about("Say by the exit code whether processes are online, and nothing else")
        .examples(["pmd is-online web && echo up", "pmd is-online all"]),
    command("wait", Group::Script, c::script::wait)
        .takes("<targets...>", Count::AtLeastOne)
        .about("Wait until processes are online, ready, stopped or done")
        .options(o::WAIT)
        .examples(["pmd wait db --for ready --timeout 60s", "pmd wait report --for done"]),
    command("ping", Group::Script, c::script::ping)
        .takes("", Count::None)
        .about("Say whether a daemon answers")
        .examples(["pmd ping", "pmd ping -q || pmd resurrect"]),
    command("flush", Group::State, c::state::flush)
        .takes("[targets...]", Count::Any)
        .about("Empty log files")
        .examples(["pmd flush web", "pmd flush"]),
    command("rotate", Group::State, c::state::rotate)
        .aliases(&["logrotate"])
        .takes("[targets...]", Count::Any)
        .about("Rotate log files now")
        .examples(["pmd rotate web", "pmd rotate"]),
    command("reloadLogs", Group::State, c::state::reload_logs)
        .aliases(&["reload-logs"])
        .takes("", Count::None)
        .about("Open log files anew after another program rotated them")
        .examples(["pmd reloadLogs", "pmd reloadLogs -q"]),
    command("save", Group::State, c::state::save)
        .aliases(&["dump"])
        .takes("", Count::None)
        .about("Make sure that all is saved (which happens by itself)")
        .options(o::SAVE)
        .examples(["pmd save", "pmd save --json"]),
    command("resurrect", Group::State, c::state::resurrect)
        .takes("", Count::None)
        .about("Start everything that is saved and does not run")
        .options(o::RESURRECT)
        .examples(["pmd resurrect", "pmd resurrect --from-pm2"]),
    command("export", Group::State, c::state::export)
        .takes("[targets...]", Count::Any)
        .about("Print a configuration of what is running, secrets left out")
        .options(o::EXPORT)
        .examples(["pmd export > pmd.json", "pmd export web --format pm2"]),
    command("install-links", Group::Daemon, c::links::install)
        .takes("[directory]", Count::AtMostOne)
        .about("Make pm2, pm2-runtime and pm2-docker names of this program")
        .options(o::LINKS)
        .examples(["pmd install-links", "pmd install-links ~/bin"]),
    command("init", Group::Configuration, c::init::init)
        .aliases(&["ecosystem"])
        .takes("[file]", Count::AtMostOne)
        .about("Write a configuration of what is running, or of the programs in this directory")
        .options(o::INIT)
        .examples(["pmd init", "pmd init apps/pmd.json"]),
    command("check", Group::Configuration, c::init::check)
        .aliases(&["validate"])
        .takes("<file...>", Count::AtLeastOne)
        .about("Check configuration files and what they name")
        .options(o::CHECK)
        .examples(["pmd check pmd.json", "pmd check ecosystem.config.js --env production"]),
    command("daemon", Group::Daemon, c::daemon::daemon)
        .takes("", Count::None)
        .about("Run the daemon")
        .options(o::DAEMON)
        .examples(["pmd daemon", "pmd daemon --foreground --home /srv/pmd"]),
    command("kill", Group::Daemon, c::state::kill)
        .takes("", Count::None)
        .about("Stop all programs, then the daemon")
        .options(o::KILL)
        .examples(["pmd kill", "pmd kill --leave-running"]),
    command("set", Group::Daemon, c::settings::set)
        .takes("<key> <value...>", Count::AtLeastTwo)
        .about("Change a setting of the daemon")
        .examples(["pmd set log.max_size 20M", "pmd set web.listen 127.0.0.1:9700"]),
    command("get", Group::Daemon, c::settings::get)
        .takes("[key]", Count::AtMostOne)
        .about("Show a setting, or all")
        .examples(["pmd get log.max_size", "pmd get --json"]),
    command("unset", Group::Daemon, c::settings::unset)
        .takes("<key>", Count::ExactlyOne)
        .about("Give a setting its default again")
        .examples(["pmd unset log.max_size", "pmd unset web.token_file"]),
    command("conf", Group::Daemon, c::settings::conf)
        .aliases(&["config"])
        .takes("[key] [value...]", Count::Any)
        .about("Show settings, or change one")
        .examples(["pmd conf", "pmd conf log.keep 10"]),
    command("web", Group::Daemon, c::settings::web)
        .takes("[token show|new]", Count::Any)
        .about("Show where the web interface is, or the token that opens it")
        .examples(["pmd web", "pmd web token new"]),
    command("show-api-key", Group::Daemon, c::settings::show_token)
        .takes("", Count::None)
        .about("Show the token of the web interface")
        .examples(["pmd show-api-key", "pmd show-api-key --json"]),
    command("regenerate-api-key", Group::Daemon, c::settings::new_token)
        .takes("", Count::None)
        .about("Make a new token for the web interface")
        .examples(["pmd regenerate-api-key", "pmd regenerate-api-key -q"]),
    command("link", Group::Daemon, c::agent::link)
        .takes("<secret> <public> [name], info, stop or delete", Count::Any)
        .about("Connect to a back end of PM2's agent, or show and end that")
        .options(o::LINK)
        .examples(["pmd link SECRET PUBLIC edge-1 --info-node http://10.0.0.2", "pmd link info"]),
    command("unlink", Group::Daemon, c::agent::unlink)
        .takes("", Count::None)
        .about("Disconnect from it, and forget its keys")
        .examples(["pmd unlink", "pmd unlink -q"]),
    command("agent", Group::Daemon, c::agent::agent)
        .aliases(&["info-agent"])
        .takes("[status]", Count::AtMostOne)
        .about("Show the agent's connections, what waits for them, and what went wrong")
        .examples(["pmd agent status", "pmd agent status --json"]),
    command("doctor", Group::Daemon, c::doctor::run)
        .takes("", Count::None)
        .about("Look for what is wrong, and say how to mend it")
        .examples(["pmd doctor", "pmd doctor --json"]),
    command("help", Group::Daemon, c::help::run)
        .takes("[command]", Count::AtMostOne)
        .about("Explain a command")
        .examples(["pmd help start", "pmd help --json"]),
    command("version", Group::Daemon, c::help::version)
        .takes("", Count::None)
        .about("Print the versions of this program and of the daemon")
        .examples(["pmd version", "pmd --version"]),
];

const fn command(
    name: &'static str,
    group: Group,
    run: fn(&mut Session, &Parsed) -> Run,
) -> Command {
    Command {
        name,
        aliases: &[],
        operands: "",
        count: Count::None,
        rest: Rest::Refused,
        about: "",
        options: &[],
        examples: ["", ""],
        group,
        run,
    }
}

impl Command {
    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn takes(mut self, operands: &'static str, count: Count) -> Self {
        self.operands = operands;
        self.count = count;
        self
    }

    const fn rest(mut self) -> Self {
        self.rest = Rest::Arguments;
        self
    }

    const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    const fn options(mut self, options: &'static [Opt]) -> Self {
        self.options = options;
        self
    }

    const fn examples(mut self, examples: [&'static str; 2]) -> Self {
        self.examples = examples;
        self
    }
}
