use std::rc::Rc;

use serde_json::{Value, json};

use super::amp::{self, MAX_MESSAGE, Message, Pair};
use super::bus::{self, Shown};
use super::methods::{Call, Id, METHODS, Named};
use super::object::Object;
use super::rpc::{self, MAX_IN_PROGRESS, REPLY_QUEUE, Rpc};
use super::view::{self, Files, Fixed, Known};
use crate::base::{Now, ProcId, Stream, WallTime};
use crate::config::resolve::{self, Defaults, Dialect, Origin};
use crate::proto::buffer::Outbox;
use crate::proto::messages::event::Subject;
use crate::proto::messages::metrics::Usage;
use crate::proto::messages::stamp::MessageIds;
use crate::proto::protocol::{Context, Conversation, Demand, Hangup, MESSAGES_PER_TURN};
use crate::supervisor::Supervisor;
use crate::supervisor::spec::Environment;
use crate::supervisor::vocabulary::{Existing, Input, Options, ReplyTo, Request};

/// A request as clients send it.
fn request(body: &Value, id: &str) -> Vec<u8> {
    let mut pair = Pair::reply();
    pair.json().extend_from_slice(body.to_string().as_bytes());
    pair.close_reply(format!("s:{id}").as_bytes()).concat()
}

fn call(method: &str, args: Value) -> Value {
    json!({"type": "call", "method": method, "args": args})
}

/// A client of the RPC.
struct Client {
    rpc: Rpc,
    out: Outbox,
}

impl Client {
    fn new() -> Self {
        Self { rpc: Rpc::new(METHODS), out: Outbox::new(REPLY_QUEUE, 0) }
    }

    fn with(
        &mut self,
        calls: &mut Vec<(u64, Call)>,
        act: impl FnOnce(&mut Rpc, &mut Context<'_>) -> Result<(), Hangup>,
    ) -> Result<(), Hangup> {
        let ids = MessageIds::new(String::new());
        let mut demands = Vec::new();
        let now = Now::default();
        let mut cx = Context { now, ids: &ids, out: &mut self.out, demands: &mut demands };
        let end = act(&mut self.rpc, &mut cx);
        calls.extend(demands.into_iter().map(|(tag, demand)| {
            let Demand::Pm2(call) = demand else { panic!("{demand:?}") };
            (tag, call)
        }));
        end
    }

    fn receive(&mut self, bytes: &[u8], calls: &mut Vec<(u64, Call)>) -> Result<(), Hangup> {
        self.with(calls, |rpc, cx| rpc.receive(bytes, cx))
    }

    fn reply(&mut self, tag: u64, reply: Pair) -> Result<(), Hangup> {
        self.rpc.answer(tag, reply, &mut self.out)
    }
}

/// Everything that waits for the client, as pairs of body and id.
fn sent(client: &mut Client) -> Vec<(Value, String)> {
    let mut bytes = Vec::new();
    client.out.send(&mut bytes).unwrap();
    let mut rest = bytes.as_slice();
    let mut all = Vec::new();
    while let Some(message) = Message::first(rest).unwrap() {
        let [body, id] = message.arguments() else { panic!("{message:?}") };
        let body = serde_json::from_slice(amp::json(body).unwrap()).unwrap();
        let id = std::str::from_utf8(id).unwrap().strip_prefix("s:").unwrap();
        all.push((body, id.to_owned()));
        rest = &rest[message.length..];
    }
    assert!(rest.is_empty());
    all
}

fn error_of(body: &Value) -> String {
    let mut rpc = Client::new();
    let mut calls = Vec::new();
    rpc.receive(&request(body, "1:0"), &mut calls).unwrap();
    let Some((answer, _)) = sent(&mut rpc).pop() else { panic!("no error: {calls:?}") };
    assert!(answer.get("args").is_none());
    answer["error"].as_str().unwrap().to_owned()
}

fn read(method: &str, args: Value) -> Call {
    let mut rpc = Client::new();
    let mut calls = Vec::new();
    rpc.receive(&request(&call(method, args), "1:0"), &mut calls).unwrap();
    calls.pop().expect("a call").1
}

#[test]
fn requests_are_the_same_however_their_bytes_are_cut() {
    let bytes = [
        request(&call("ping", json!([{}])), "4711:0"),
        request(&json!({"type": "methods"}), "4711:1"),
        request(&call("stopProcessId", json!(["7"])), "my-own:id:7"),
    ]
    .concat();
    for cut in 0..bytes.len() {
        let mut rpc = Client::new();
        let mut calls = Vec::new();
        for part in [&bytes[..cut], &bytes[cut..]] {
            rpc.receive(part, &mut calls).unwrap();
        }
        let [(first, Call::Ping), (second, Call::Stop(id))] = calls.as_slice() else {
            panic!("{calls:?}")
        };
        assert_eq!(id.id, Some(ProcId(7)));
        rpc.reply(*second, rpc::nothing()).unwrap();
        rpc.reply(*first, rpc::value(&json!({"msg": "pong"}))).unwrap();
        rpc.reply(*first, rpc::nothing()).unwrap();
        let answers = sent(&mut rpc);
        let ids: Vec<&str> = answers.iter().map(|(_, id)| id.as_str()).collect();
        assert_eq!(ids, ["4711:1", "my-own:id:7", "4711:0"]);
        assert_eq!(
            answers[0].0["methods"]["ping"],
            json!({"name": "ping", "params": ["env", "cb"]})
        );
        assert_eq!(answers[1].0, json!({"args": []}));
        assert!(!rpc.rpc.has_more());
    }
}

#[test]
fn altered_requests_are_answered_or_end_the_connection() {
    let bytes = request(&call("restartProcessId", json!([{"id": 0, "env": {"a": [1]}}])), "4711:0");
    for at in 0..bytes.len() {
        for value in [0, b'"', b'{', b'\\', 0x80, 0xff] {
            let mut altered = bytes.clone();
            altered[at] = value;
            let mut rpc = Client::new();
            let mut calls = Vec::new();
            let _ = rpc.receive(&altered, &mut calls);
            for (tag, _) in calls {
                rpc.reply(tag, rpc::error("x")).unwrap();
            }
        }
    }
}

#[test]
fn what_breaks_the_framing_ends_the_connection() {
    let nonsense: [&[u8]; 6] = [
        b"\x10",
        b"\x11\0\0\0\x02j:",
        b"\x12\0\0\0\x03j:{\0\0\0\x02s:",
        b"\x12\0\0\0\x04j:{}\0\0\0\0",
        b"\x12\xff\xff\xff\xff",
        b"\x12\0\0\0\x05j:{\0}\0\0\0\x02s:",
    ];
    for bytes in nonsense {
        let mut rpc = Client::new();
        let end = rpc.receive(bytes, &mut Vec::new());
        assert!(matches!(end, Err(Hangup::Malformed(_))), "{bytes:?}");
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let mut pair = Pair::reply();
    pair.json().extend_from_slice(deep.as_bytes());
    let end = Client::new().receive(&pair.close_reply(b"s:1").concat(), &mut Vec::new());
    assert!(matches!(end, Err(Hangup::Malformed(_))));
}

#[test]
fn memory_grows_only_with_what_has_come() {
    let mut rpc = Client::new();
    let mut calls = Vec::new();
    rpc.receive(b"\x12\x00\x7f\x00\x00j:\"", &mut calls).unwrap();
    for _ in 0..64 {
        rpc.receive(&[b'x'; 1024], &mut calls).unwrap();
    }
    assert!(calls.is_empty() && !rpc.rpc.has_more());
    let mut rpc = Client::new();
    let much = vec![b'x'; MAX_MESSAGE + 64 * 1024];
    rpc.receive(b"\x12\x00\xff\xff\xf0j:\"", &mut calls).unwrap();
    assert!(rpc.receive(&much, &mut calls).is_err());
}

#[test]
fn wrong_requests_get_the_errors_of_pm2() {
    for (body, text) in [
        (json!({"type": "call", "args": []}), ".method required"),
        (json!({"method": "", "args": []}), ".method required"),
        (json!(null), ".method required"),
        (json!({"method": "nope", "args": [{}]}), "method \"nope\" does not exist"),
        (json!({"method": {}, "args": [{}]}), "method \"[object Object]\" does not exist"),
        (json!({"method": "ping"}), ".args required"),
        (json!({"method": "ping", "args": 0}), ".args required"),
        (json!({"method": "msgProcess", "args": [{}]}), "method requires name or id field"),
        (
            json!({"method": "restartProcessId", "args": [{}]}),
            "opts.id not passed to restartProcessId",
        ),
        (
            json!({"method": "restartProcessId", "args": []}),
            "opts.id not passed to restartProcessId",
        ),
        (
            json!({"method": "sendDataToProcessId", "args": [{"id": 0, "data": 0, "topic": ""}]}),
            "ID, DATA or TOPIC field is missing",
        ),
        (
            json!({"method": "sendLineToStdin", "args": [{"pm_id": 0, "line": ""}]}),
            "pm_id or line field missing",
        ),
        (json!({"method": "notifyByProcessId", "args": [{}]}), "process id missing"),
        (json!({"method": "prepare", "args": [7]}), "the first argument must be an object"),
        (json!({"method": "prepare", "args": [{"env": 7}]}), "env must be an object"),
    ] {
        assert_eq!(error_of(&body), text, "{body}");
    }
}

#[test]
fn every_method_reads_any_argument() {
    let odd = [
        json!([]),
        json!([null]),
        json!([{}]),
        json!([[]]),
        json!([-1]),
        json!([1e300]),
        json!(["", "", ""]),
        json!(["restartProcessId"]),
        json!([{"id": {}, "pid": "x", "signal": [], "msg": null, "env": 7, "pm_id": null}]),
    ];
    for method in METHODS {
        for args in &odd {
            let _ = (method.read)(&mut args.as_array().unwrap().clone());
        }
    }
    let mut names: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), METHODS.len());
}

#[test]
fn ids_are_numbers_or_their_digits() {
    for args in [json!([3]), json!(["3"]), json!([{"id": 3}]), json!([{"id": "3"}])] {
        let Call::Stop(Id { id, text }) = read("stopProcessId", args) else { panic!() };
        assert_eq!((id, text.as_str()), (Some(ProcId(3)), "3"));
    }
    for (args, shown) in [
        (json!([]), "undefined"),
        (json!(["web"]), "web"),
        (json!([-1]), "-1"),
        (json!([1.5]), "1.5"),
        (json!([99999999999u64]), "99999999999"),
    ] {
        let Call::Delete(Id { id, text }) = read("deleteProcessId", args) else { panic!() };
        assert_eq!((id, text.as_str()), (None, shown));
    }
    let restart = read("restartProcessId", json!([0]));
    assert!(
        matches!(restart, Call::Restart(Id { id: Some(ProcId(0)), .. }, env) if env.is_empty())
    );
    let stop = read("stopWatch", json!(["deleteAll", {"pid": 7}]));
    assert!(matches!(stop, Call::StopWatch(None)));
    let delete = read("deleteProcess", json!(["web"]));
    assert!(matches!(delete, Call::DeleteName(Named::Name(name)) if name == "web"));
}

#[test]
fn a_flood_of_calls_is_understood_in_slices_and_refused_at_the_limit() {
    let mut rpc = Client::new();
    let one = request(&call("ping", json!([{}])), "1:1");
    let mut calls = Vec::new();
    rpc.receive(&one.repeat(MAX_IN_PROGRESS + 1), &mut calls).unwrap();
    assert_eq!(calls.len(), MESSAGES_PER_TURN);
    while rpc.rpc.has_more() {
        rpc.with(&mut calls, |rpc, cx| rpc.understand(cx)).unwrap();
    }
    assert_eq!(calls.len(), MAX_IN_PROGRESS);
    let refused = sent(&mut rpc).pop().unwrap().0;
    assert_eq!(refused["error"], "too many calls in progress");
    for (tag, _) in calls {
        rpc.rpc.leave_unanswered(tag);
    }
    rpc.receive(&one, &mut Vec::new()).unwrap();
    assert!(sent(&mut rpc).is_empty());
}

/// A supervisor with one process.
fn one(fields: Value) -> Supervisor {
    let environment = Rc::new(Environment::from_iter([("PATH", "/bin"), ("status", "mine")]));
    let origin = Origin {
        dialect: Dialect::Client,
        dir: std::path::Path::new("/"),
        environment: &environment,
        profile: None,
        source: None,
        file: None,
        strict: false,
        defaults: &Defaults::default(),
    };
    let resolved = resolve::app(fields.as_object().unwrap(), &origin);
    assert_eq!(resolved.problems, []);
    let apps = resolved.apps.into_iter().map(Rc::new).collect();
    let request =
        Request::Create { apps, existing: Existing::default(), options: Options::default() };
    let mut supervisor = Supervisor::new();
    let input = Input::Request { from: ReplyTo(1), request };
    supervisor.handle(Now::default(), input, &mut Vec::new());
    supervisor
}

/// The record of the only process.
fn record(supervisor: &Supervisor, declared: Option<&Value>, known: &Known) -> Value {
    let process = supervisor.processes().next().unwrap();
    let declared = declared.map(|declared| declared.as_object().unwrap());
    let fixed = Fixed::new(process, declared, &environment(), &files(), "u-u");
    let mut out = Vec::new();
    view::record(
        &mut out,
        process,
        &fixed,
        known,
        Usage { memory: 4096, cpu: 12.3, memory_tree: 0 },
    );
    // Strict: no key twice.
    let text = std::str::from_utf8(&out).unwrap();
    crate::config::json::parse_text("record", text).unwrap()
}

fn environment() -> Environment {
    Environment::from_iter([("PATH", "/bin"), ("status", "mine"), ("PORT", "3000"), ("web", "{}")])
}

fn files() -> Files {
    Files {
        out: "/l/web-out.log".into(),
        error: "/l/web-error.log".into(),
        both: None,
        pid: "/p/web-0.pid".into(),
    }
}

#[test]
fn a_record_of_pmds_own_app_has_all_that_clients_need() {
    let supervisor = one(json!({"script": "sleep", "args": ["5"], "name": "web", "cwd": "/"}));
    let record = record(&supervisor, None, &Known::default());
    let keys: Vec<&String> = record.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["monit", "name", "pid", "pm2_env", "pm_id"]);
    assert_eq!(record["monit"], json!({"memory": 4096, "cpu": 12.3}));
    let env = &record["pm2_env"];
    for (key, value) in [
        ("name", json!("web")),
        ("namespace", json!("default")),
        ("exec_mode", json!("fork_mode")),
        ("node_args", json!([])),
        ("args", json!(["5"])),
        ("axm_monitor", json!({})),
        ("axm_actions", json!([])),
        ("status", json!("launching")),
        ("pm_out_log_path", json!("/l/web-out.log")),
        ("pm_err_log_path", json!("/l/web-error.log")),
        ("pm_pid_path", json!("/p/web-0.pid")),
        ("NODE_APP_INSTANCE", json!(0)),
        ("version", json!("N/A")),
        ("watch", json!(false)),
        ("PORT", json!("3000")),
    ] {
        assert_eq!(env[key], value, "{key}");
    }
    assert_eq!(env["env"]["status"], "mine");
    assert_eq!(env["env"]["unique_id"], "u-u");
}

#[test]
fn what_a_client_declared_is_shown_as_it_came() {
    let supervisor = one(json!({"script": "sleep", "name": "web"}));
    let declared = json!({
        "name": "old", "pm_id": 9, "custom": [1, {"a": null}], "pm_exec_path": "/bin/sleep",
        "watch": ["src"], "env": {"PORT": 3000, "web": {}, "gone": null}, "instances": 1,
    });
    let mut known = Known { node_version: Some("20.1.0".into()), ..Known::default() };
    let first = record(&supervisor, Some(&declared), &known);
    let env = &first["pm2_env"];
    assert_eq!(env["custom"], json!([1, {"a": null}]));
    assert_eq!((&env["name"], &env["pm_id"]), (&json!("web"), &json!(0)));
    assert_eq!((&env["watch"], &env["node_version"]), (&json!(["src"]), &json!("20.1.0")));
    // Given as a number, as an object beside a variable of that name, as nothing at all.
    assert_eq!((&env["env"]["PORT"], &env["PORT"]), (&json!(3000), &json!(3000)));
    assert_eq!((&env["env"]["web"], &env["env"]["gone"]), (&json!("{}"), &json!(null)));
    known.watch = Some(false);
    known.monitored = Some(true);
    let second = record(&supervisor, Some(&declared), &known);
    assert_eq!(second["pm2_env"]["watch"], json!(false));
    assert_eq!(second["pm2_env"]["_km_monitored"], json!(true));
}

fn event(frame: &[u8]) -> (String, Value) {
    let message = Message::first(frame).unwrap().unwrap();
    assert_eq!(message.length, frame.len());
    let [name, data] = message.arguments() else { panic!("{message:?}") };
    let name = std::str::from_utf8(name.strip_prefix(b"s:").unwrap()).unwrap();
    let text = std::str::from_utf8(amp::json(data).unwrap()).unwrap();
    (name.to_owned(), crate::config::json::parse_text("event", text).unwrap())
}

fn subject() -> Subject {
    Subject { id: ProcId(0), name: "demo".into(), namespace: "default".into(), instance: 0 }
}

#[test]
fn events_have_the_members_of_both_generations() {
    let supervisor = one(json!({"script": "sleep", "name": "web"}));
    let process = supervisor.processes().next().unwrap();
    let fixed = Fixed::new(process, None, &environment(), &files(), "u-u");
    let known = Known::default();
    let shown = Shown { process, fixed: &fixed, known: &known };
    let (name, data) = event(&bus::process_event(shown, "online", false, None, WallTime(7)));
    assert_eq!(name, "process:event");
    assert_eq!((&data["event"], &data["manually"]), (&json!("online"), &json!(false)));
    assert_eq!((&data["at"], &data["pm2_env"]["name"]), (&json!(7), &json!("web")));
    assert_eq!(data["process"]["pm_exec_path"], "sleep");
    assert!(data["process"].get("env").is_none());
    let (name, data) = event(&bus::old_process_event(shown, "online", None, WallTime(7)).unwrap());
    assert_eq!((name.as_str(), &data["pm2_env"]["name"]), ("process:online", &json!("web")));
    assert!(bus::old_process_event(shown, "restart", None, WallTime(7)).is_none());

    let (name, data) =
        event(&bus::log(&subject(), "online", Stream::Out, b"hi \xff\n", WallTime(1)));
    assert_eq!(name, "log:out");
    assert_eq!(
        data,
        json!({"pm_id": 0, "at": 1, "data": "hi \u{fffd}\n",
            "pm2_env": {"name": "demo", "pm_id": 0, "namespace": "default", "status": "online"},
            "process": {"pm_id": 0, "name": "demo", "rev": null, "namespace": "default"}})
    );
    let (name, data) = event(&bus::kill(false));
    assert_eq!((name.as_str(), &data["status"]), ("pm2:kill", &json!("killed")));
    let (name, data) = event(&bus::own_log("up", WallTime(1)));
    assert_eq!((name.as_str(), &data["data"]), ("log:PM2", &json!("up\n")));
}

#[test]
fn a_message_is_told_under_its_type() {
    let told = |message: Value| -> Vec<(String, Value)> {
        let text = message.to_string();
        let message = crate::proto::ipc::Message::of(&text);
        let frames = bus::message(&subject(), "online", &message, WallTime(1));
        frames.iter().map(|frame| event(frame)).collect()
    };
    let [(name, data)] = told(json!({"type": "custom:evt", "data": {"a": 1}})).try_into().unwrap();
    assert_eq!((name.as_str(), &data["data"]), ("custom:evt", &json!({"a": 1})));
    let [(name, data)] = told(json!("plain string")).try_into().unwrap();
    assert_eq!((name.as_str(), &data["raw"]), ("process:msg", &json!("plain string")));
    // Without data PM2 knows no type; the documentation of pm2-interface does.
    let heap = json!({"type": "process:heap", "heap": 7});
    let [(first, data), (second, _)] = told(heap.clone()).try_into().unwrap();
    assert_eq!((first.as_str(), second.as_str()), ("process:msg", "process:heap"));
    assert_eq!((&data["raw"], &data["msg"], &data["pm_id"]), (&heap, &heap, &json!(0)));
    assert!(told(json!({"type": "axm:action", "data": {"a": 1}})).is_empty());
    // No program speaks in the daemon's name.
    for kind in ["process:event", "log:out", "pm2:kill"] {
        let forged = json!({"type": kind, "data": {"a": 1}});
        let [(name, data)] = told(forged.clone()).try_into().unwrap();
        assert_eq!((name.as_str(), &data["raw"]), ("process:msg", &forged));
    }
    let [(name, _)] = told(json!({"type": ["x"], "data": 0})).try_into().unwrap();
    assert_eq!(name, "process:msg");
}

#[test]
fn a_reply_carries_what_remains_of_pm2s_child() {
    let supervisor = one(json!({"script": "sleep", "name": "web"}));
    let process = supervisor.processes().next().unwrap();
    let fixed = Fixed::new(process, None, &environment(), &files(), "u-u");
    let mut out = Vec::new();
    view::reply(&mut out, process, &fixed, &Known::default());
    Object::resume(&mut Vec::new()).end();
    let value: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["process"], json!({"pid": 0}));
    assert_eq!(value["pm2_env"]["pm_id"], 0);
}
