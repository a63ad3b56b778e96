use super::*;

const A: Link = Link::Child(ChildId(1));
const B: Link = Link::Child(ChildId(2));
const U: Link = Link::Socket(3);
const V: Link = Link::Socket(4);

fn hear(hub: &mut Hub, link: Link, line: &str) -> Vec<Deed> {
    let kind = if matches!(link, Link::Child(_)) { "ipc" } else { "unix" };
    let message = Message::read(line.as_bytes()).expect(line);
    hub.receive(link, kind, &message, false)
}

/// A hub called 1 with the children 10 and 20 and two nameless clients.
fn hub() -> Hub {
    let mut hub = Hub::new("1".to_owned());
    for (link, name) in [(A, "10"), (B, "20"), (U, NAMELESS), (V, NAMELESS)] {
        let online = format!(
            r#"{{"from":"{name}","pids":["{name}"],"type":"toParents","event":"online","args":[]}}"#
        );
        let deeds = hear(&mut hub, link, &online);
        let own = hub.peers.get(&link).unwrap().id.clone();
        assert_eq!(deeds[0], presence("ipevents:online", &own));
        let parent = format!(
            r#"{{"from":"1","pids":["1"],"to":"{name}","type":"toChild","event":"parent","args":["1"]}}"#
        );
        assert_eq!(deeds[1..], [send(link, &parent)]);
    }
    hub
}

fn send(to: Link, line: &str) -> Deed {
    Deed::Send { to, line: line.to_owned(), lost: None }
}

fn lines(deeds: &[Deed]) -> Vec<(Link, &str)> {
    let line = |deed| match deed {
        &Deed::Send { to, ref line, .. } => Some((to, line.as_str())),
        Deed::Tell { .. } | Deed::Wrong(_) => None,
    };
    deeds.iter().filter_map(line).collect()
}

#[test]
fn each_type_goes_where_it_belongs() {
    let mut hub = hub();
    let up = r#"{"from":"10","pids":["10"],"type":"toParents","event":"up","args":[1]}"#;
    let told = r#"{"from":"10","pids":["10","1"],"type":"toParents","event":"up","args":[1]}"#;
    let deeds = hear(&mut hub, A, up);
    assert_eq!(deeds, [Deed::Tell { event: "ipevents:event", payload: told.to_owned() }]);
    let top = up.replace("toParents", "toGM");
    assert_eq!(lines(&hear(&mut hub, A, &top)), []);
    let siblings = up.replace("toParents", "toSiblings");
    let deeds = hear(&mut hub, A, &siblings);
    let line = told.replace("toParents", "toSiblings");
    assert_eq!(lines(&deeds), [(B, &*line), (U, &line), (V, &line)]);
    let broadcast = r#"{"from":"11","pids":["11","10"],"type":"broadcast","event":"all","args":["\ud800",1e400]}"#;
    let deeds = hear(&mut hub, A, broadcast);
    let line = r#"{"from":"11","pids":["11","10","1"],"type":"broadcast","event":"all","args":["\ud800",1e400]}"#;
    assert_eq!(lines(&deeds), [(B, line), (U, line), (V, line)]);
    assert!(matches!(deeds[0], Deed::Tell { .. }));
    // Who announces what it listens to gets nothing else.
    let listener =
        r#"{"from":"20","pids":["20"],"type":"toParents","event":"newListener","args":["up"]}"#;
    assert_eq!(hear(&mut hub, B, listener), []);
    assert_eq!(lines(&hear(&mut hub, A, broadcast)), [(U, line), (V, line)]);
    assert_eq!(lines(&hear(&mut hub, A, &siblings)).len(), 3);
    for wrong in ["toChilds", "toChild"] {
        let deeds = hear(&mut hub, A, &up.replace("toParents", wrong));
        assert_eq!(deeds, [Deed::Wrong("wrong-direction")]);
    }
}

#[test]
fn a_message_finds_its_way_by_route_or_by_what_was_learned() {
    let mut hub = hub();
    let hello =
        r#"{"from":"12","pids":["12","11","10"],"type":"toParents","event":"online","args":[]}"#;
    assert_eq!(hear(&mut hub, A, hello), [presence("ipevents:online", "12")], "not its own child");
    let by_route = r#"{"from":"20","pids":["20"],"to":"12","route":["12","11","10"],"type":"sendTo","event":"x","args":[]}"#;
    let down = r#"{"from":"20","pids":["20","1"],"to":"12","route":["12","11"],"type":"sendTo","event":"x","args":[]}"#;
    assert_eq!(lines(&hear(&mut hub, B, by_route)), [(A, down)]);
    let by_name =
        r#"{"from":"20","pids":["20"],"to":"12","route":[],"type":"sendTo","event":"x","args":[]}"#;
    assert_eq!(lines(&hear(&mut hub, B, by_name)), [(A, down)]);
    let to_us = by_name.replace("\"12\"", "\"1\"");
    assert!(matches!(hear(&mut hub, B, &to_us)[..], [Deed::Tell { .. }]));
    let nowhere = by_name.replace("\"12\"", "\"99\"");
    let notice = r#"{"from":"1","pids":["1"],"to":"20","route":[],"type":"sendTo","event":"undeliverable","args":[{"to":"99","event":"x","reason":"no-route"}]}"#;
    assert_eq!(lines(&hear(&mut hub, B, &nowhere)), [(B, notice)]);
    let of_notice = nowhere.replace("\"x\"", "\"undeliverable\"");
    assert_eq!(hear(&mut hub, B, &of_notice), []);
    let said = hub.say("sendTo", Some("12"), "e", &json!([1])).unwrap();
    assert_eq!(
        lines(&said),
        [(
            A,
            r#"{"from":"1","pids":["1"],"to":"12","route":["12","11"],"type":"sendTo","event":"e","args":[1]}"#
        )]
    );
    assert!(hub.say("toChild", Some("12"), "e", &json!([])).is_err());
    assert_eq!(hub.say("toChilds", None, "e", &json!([])).unwrap().len(), 4);
    // With its neighbour everything behind it is gone.
    assert_eq!(hub.leave(A, false), [presence("ipevents:offline", "10")]);
    assert!(hub.say("sendTo", Some("12"), "e", &json!([])).is_err());
    assert_eq!(hub.leave(A, false), []);
}

#[test]
fn peers_that_call_themselves_the_same_are_told_apart() {
    let mut hub = hub();
    let names: Vec<&str> = hub.peers().map(|(_, peer)| peer.id.as_str()).collect();
    assert_eq!(names, ["10", "20", "unix:1", "unix:2"]);
    let from_u = format!(
        r#"{{"from":"{NAMELESS}","pids":["{NAMELESS}"],"to":"unix:2","route":[],"type":"sendTo","event":"x","args":[]}}"#
    );
    let to_v = format!(
        r#"{{"from":"unix:1","pids":["unix:1","1"],"to":"{NAMELESS}","route":[],"type":"sendTo","event":"x","args":[]}}"#
    );
    assert_eq!(lines(&hear(&mut hub, U, &from_u)), [(V, &*to_v)]);
}

#[test]
fn what_is_forged_or_goes_round_is_dropped() {
    let mut hub = hub();
    for (line, wrong) in [
        (r#"{"from":"20","pids":["20"],"type":"toGM","event":"x","args":[]}"#, "spoofed"),
        (r#"{"from":"5","pids":["5","1","10"],"type":"toGM","event":"x","args":[]}"#, "loop"),
        (r#"{"from":"10","pids":["10"],"type":"sendTo","event":"x","args":[]}"#, "malformed"),
        (
            r#"{"from":"10","pids":["10"],"type":"toParents","event":"newListener","args":[1]}"#,
            "malformed",
        ),
    ] {
        assert_eq!(hear(&mut hub, A, line), [Deed::Wrong(wrong)], "{line}");
    }
    let far: Vec<String> = (100..140).map(|id| format!("\"{id}\"")).collect();
    let far = format!(r#"{{"pids":[{},"10"],"type":"toGM","event":"x","args":[]}}"#, far.join(","));
    assert!(matches!(hear(&mut hub, A, &far)[..], [Deed::Wrong(_)]));
    // Numbers are names, too.
    let number = r#"{"from":10,"pids":[10],"type":"toGM","event":"x","args":[]}"#;
    assert!(matches!(hear(&mut hub, A, number)[..], [Deed::Tell { .. }]));
}

#[test]
fn what_is_remembered_has_a_limit() {
    let mut hub = hub();
    for id in 100..5200 {
        let line = format!(
            r#"{{"from":"{id}","pids":["{id}","10"],"type":"toGM","event":"x","args":[]}}"#
        );
        hear(&mut hub, A, &line);
    }
    assert_eq!(hub.routes.len(), MAX_ROUTES);
    assert!(!hub.routes.contains_key("100") && hub.routes.contains_key("5199"));
    for at in 0..1100 {
        let line = format!(
            r#"{{"from":"10","pids":["10"],"type":"toParents","event":"newListener","args":["e{at}"]}}"#
        );
        assert_eq!(hear(&mut hub, A, &line), []);
    }
    let peer = hub.peers.get(&A).unwrap();
    assert_eq!(peer.listeners.len(), MAX_LISTENERS);
    assert!(peer.wants("anything"));
}
