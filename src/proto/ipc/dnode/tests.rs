use serde_json::json;

use super::*;

const OPENING: &str = r#"{"method":"methods","arguments":[{"emit":"[Function]"}],"callbacks":{"0":["0","emit"]},"links":[]}"#;

fn hear(session: &mut Session, frame: &str) -> Heard {
    session.hear(&Message::read(frame.as_bytes()).expect(frame))
}

fn open() -> Session {
    let mut session = Session::new(7);
    assert_eq!(hear(&mut session, OPENING), Heard::Begun);
    session
}

fn event(name: &str, args: &str) -> Heard {
    Heard::Event { name: name.to_owned(), args: args.to_owned() }
}

#[test]
fn a_session_begins_once_and_may_be_begun_anew() {
    let mut session = open();
    assert_eq!(hear(&mut session, OPENING), Heard::Nothing);
    assert_eq!(std::str::from_utf8(METHODS).unwrap().trim(), OPENING);
    // A program may number its functions as it likes.
    let other = r#"{"method":"methods","arguments":[{"emit":"[Function]"}],"callbacks":{"1":["0"],"5":[0,"emit"]}}"#;
    assert_eq!(hear(&mut session, other), Heard::Nothing);
    let line = session.emit(&json!("a"), &[], None).unwrap();
    assert_eq!(line, "{\"method\":5,\"arguments\":[\"a\"],\"callbacks\":{},\"links\":[]}\n");
    let none = r#"{"method":"methods","arguments":[{}],"callbacks":{}}"#;
    assert_eq!(hear(&mut session, none), Heard::Wrong("no-emit"));
    assert_eq!(session.emit(&json!("a"), &[], None), Err(Refusal::NoSession));
}

#[test]
fn events_come_with_every_shape_of_arguments() {
    let mut session = open();
    for (frame, heard) in [
        (
            r#"{"method":0,"arguments":["child::message","I am alive!"],"callbacks":{},"links":[]}"#,
            event("child::message", r#"["I am alive!"]"#),
        ),
        (r#"{"method":"emit","arguments":["a"]}"#, event("a", "[]")),
        (
            r#"{"method":0,"arguments":[["child","array"],1],"callbacks":{},"links":[]}"#,
            event("child::array", "[1]"),
        ),
        (
            r#"{"method":0,"arguments":["child::circ",{"a":1,"self":"[Circular]"}],"callbacks":{},"links":[{"from":["1"],"to":["1","self"]}]}"#,
            event("child::circ", r#"[{"a":1,"self":{"$ref":["0"]}}]"#),
        ),
        (
            r#"{"method":0,"arguments":["child::fns","[Function]","[Function]",{"f":"[Function]"}],"callbacks":{"2":["1"],"3":["2"],"4":["3","f"]},"links":[]}"#,
            event("child::fns", r#"[{"$fn":"7:2"},{"$fn":"7:3"},{"f":{"$fn":"7:4"}}]"#),
        ),
        // What the JSON library cannot hold passes.
        (
            r#"{"method":0,"arguments":["e", "\ud800", 1e400 ,1.0]}"#,
            event("e", r#"["\ud800", 1e400 ,1.0]"#),
        ),
        // Paths that lead nowhere, and such that are none, are ignored.
        (
            r#"{"method":0,"arguments":["e",[1]],"callbacks":{"1":["0"],"2":["9"],"3":["1","push"],"x":["1"],"4":[],"5":"1"},"links":[{"from":["8"],"to":["1"]},{"from":["1"],"to":["1","7"]},{},3]}"#,
            event("e", "[[1]]"),
        ),
        (r#"{"method":0,"arguments":[]}"#, Heard::Wrong("no-name")),
        (r#"{"method":0,"arguments":[7]}"#, Heard::Wrong("no-name")),
        (r#"{"method":0,"arguments":[[]]}"#, Heard::Wrong("no-name")),
        (r#"{"method":0,"arguments":[["a",1]]}"#, Heard::Wrong("no-name")),
        (r#"{"method":0,"arguments":[{}]}"#, Heard::Wrong("no-name")),
        (r#"{"method":0,"arguments":["exit",1]}"#, Heard::Wrong("reserved")),
        (r#"{"method":0,"arguments":[["exit"],1]}"#, Heard::Wrong("reserved")),
        (r#"{"method":9,"arguments":[]}"#, Heard::Wrong("unknown-method")),
        (r#"{"method":-1,"arguments":[]}"#, Heard::Wrong("unknown-method")),
        (r#"{"method":99999999999999999999,"arguments":[]}"#, Heard::Wrong("unknown-method")),
        (r#"{"method":"destroy","arguments":[]}"#, Heard::Wrong("unknown-method")),
    ] {
        assert_eq!(hear(&mut session, frame), heard, "{frame}");
    }
}

#[test]
fn a_question_is_answered_by_the_function_that_went_with_it() {
    let mut session = open();
    let line = session.emit(&json!("question"), &[json!(41), json!("ä\"")], Some(5)).unwrap();
    assert_eq!(
        line,
        "{\"method\":0,\"arguments\":[\"question\",41,\"ä\\\"\",\"[Function]\"],\"callbacks\":{\"1\":[\"3\"]},\"links\":[]}\n"
    );
    let answer =
        r#"{"method":1,"arguments":[null,42,"[Function]"],"callbacks":{"8":["2"]},"links":[]}"#;
    let args = r#"[null,42,{"$fn":"7:8"}]"#.to_owned();
    assert_eq!(hear(&mut session, answer), Heard::Answer { to: 5, args });
    // Once is enough.
    assert_eq!(hear(&mut session, answer), Heard::Wrong("unknown-method"));
    let line = session.call("7:8", &[json!("once more")], Some(6)).unwrap();
    assert_eq!(
        line,
        "{\"method\":8,\"arguments\":[\"once more\",\"[Function]\"],\"callbacks\":{\"2\":[\"1\"]},\"links\":[]}\n"
    );
    session.forget(6);
    let late = r#"{"method":2,"arguments":[]}"#;
    assert_eq!(hear(&mut session, late), Heard::Wrong("unknown-method"));
}

#[test]
fn functions_and_cycles_go_to_the_program_too() {
    let mut session = open();
    let shown = r#"{"method":0,"arguments":["f","[Function]"],"callbacks":{"3":["1"]}}"#;
    assert_eq!(hear(&mut session, shown), event("f", r#"[{"$fn":"7:3"}]"#));
    let args = [json!({"me": {"$ref": ["0"]}, "f": {"$fn": "7:3"}}), json!([{"$ref": [0, "f"]}])];
    assert_eq!(
        session.emit(&json!(["a", "b"]), &args, None).unwrap(),
        "{\"method\":0,\"arguments\":[[\"a\",\"b\"],{\"f\":\"[Function]\",\"me\":\"[Circular]\"},[\"[Circular]\"]],\
         \"callbacks\":{\"1\":[\"1\",\"f\"]},\"links\":[{\"from\":[\"1\"],\"to\":[\"1\",\"me\"]},{\"from\":[\"1\",\"f\"],\"to\":[\"2\",\"0\"]}]}\n"
    );
    // The program calls its own function through us, and passes another along.
    let called =
        r#"{"method":1,"arguments":[{"x":"[Function]"}],"callbacks":{"9":["0","x"]},"links":[]}"#;
    let Heard::Say(line) = hear(&mut session, called) else { panic!() };
    assert_eq!(
        line,
        "{\"method\":3,\"arguments\":[{\"x\":\"[Function]\"}],\"callbacks\":{\"2\":[\"0\",\"x\"]},\"links\":[]}\n"
    );
    assert!(matches!(hear(&mut session, called), Heard::Say(_)), "it may do so again");
    let culled = r#"{"method":"cull","arguments":[1,0,77]}"#;
    assert_eq!(hear(&mut session, culled), Heard::Nothing);
    assert_eq!(hear(&mut session, called), Heard::Wrong("unknown-method"));
}

#[test]
fn what_is_not_sent() {
    let mut session = open();
    let mut closed = Session::new(1);
    assert_eq!(closed.emit(&json!("a"), &[], None), Err(Refusal::NoSession));
    for name in RESERVED {
        assert_eq!(session.emit(&json!(name), &[], None), Err(Refusal::Reserved), "{name}");
        assert_eq!(session.emit(&json!([name]), &[], None), Err(Refusal::Reserved), "{name}");
    }
    for name in [json!(1), json!(null), json!([]), json!(["a", 1]), json!({})] {
        assert_eq!(session.emit(&name, &[], None), Err(Refusal::Malformed), "{name}");
    }
    for (arg, refusal) in [
        (json!({"$fn": "7:3"}), Refusal::Gone),
        (json!({"$fn": "6:0"}), Refusal::Gone),
        (json!({"$fn": "x"}), Refusal::Malformed),
        (json!({"$ref": []}), Refusal::Malformed),
        (json!({"$ref": ["x"]}), Refusal::Malformed),
        (json!({"$ref": [0, {}]}), Refusal::Malformed),
    ] {
        assert_eq!(
            session.emit(&json!("a"), std::slice::from_ref(&arg), Some(1)),
            Err(refusal),
            "{arg}"
        );
    }
    assert!(session.exports.is_empty());
    // An object that only looks like one.
    let line = session.emit(&json!("a"), &[json!({"$fn": 1}), json!({"$fn": "", "b": 1})], None);
    assert!(line.unwrap().contains(r#"["a",{"$fn":1},{"$fn":"","b":1}]"#));
}

#[test]
fn limits() {
    let mut session = open();
    for id in 1..=1100_i64 {
        let frame = format!(r#"{{"method":0,"arguments":["f",0],"callbacks":{{"{id}":["1"]}}}}"#);
        assert!(matches!(hear(&mut session, &frame), Heard::Event { .. }));
    }
    assert_eq!(session.functions(), MAX_FUNCTIONS);
    assert_eq!(session.call("7:76", &[], None), Err(Refusal::Gone));
    assert!(session.call("7:77", &[], None).is_ok());
    for _ in 0..MAX_EXPORTS {
        session.emit(&json!("a"), &[json!({"$fn": "7:77"})], None).unwrap();
    }
    for answer in 0..256 {
        session.emit(&json!("a"), &[], Some(answer)).unwrap();
    }
    assert_eq!(session.emit(&json!("a"), &[], Some(999)), Err(Refusal::Overflow));
    assert!(session.emit(&json!("a"), &[], None).is_ok());
    let many: Vec<String> = (0..5000).map(|id| format!("\"{id}\":[\"1\",\"{id}\"]")).collect();
    let frame =
        format!(r#"{{"method":0,"arguments":["f",[]],"callbacks":{{{}}}}}"#, many.join(","));
    assert_eq!(hear(&mut session, &frame), Heard::Wrong("malformed"));
}

/// Whatever is altered in a frame: what comes out is JSON, and nothing panics.
#[test]
fn altered_frames_never_break_what_is_told() {
    let frame = r#"{"method":0,"arguments":["e",{"a":["[Function]",{"b":"[Circular]"}]},"x"],"callbacks":{"4":["1","a","0"],"5":["2"]},"links":[{"from":["1"],"to":["1","a","1","b"]}]}"#;
    let mut told = 0;
    for at in 0..frame.len() {
        for byte in br#"0179"[]{},:\ x"# {
            let mut altered = frame.as_bytes().to_vec();
            altered[at] = *byte;
            let Some(message) = Message::read(&altered) else { continue };
            let mut session = open();
            let answers = session.emit(&json!("q"), &[], Some(1));
            assert!(answers.is_ok());
            if let Heard::Event { args, .. } | Heard::Answer { args, .. } = session.hear(&message) {
                let args: Value = serde_json::from_str(&args).expect(&args);
                assert!(args.is_array());
                told += 1;
            }
        }
    }
    assert!(told > 300, "{told}");
}
