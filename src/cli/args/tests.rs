use super::*;

fn run(words: &[&str]) -> Parsed {
    match parse(words.iter().map(Into::into).collect()) {
        Ok(Wish::Run(parsed)) => parsed,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn refused(words: &[&str]) -> (String, Option<String>) {
    match parse(words.iter().map(Into::into).collect()) {
        Err(failure) => (failure.message.clone(), failure.hint.clone()),
        Ok(wish) => panic!("{words:?}: {wish:?}"),
    }
}

#[test]
fn options_stand_anywhere() {
    for words in [
        &["start", "app.js", "--name", "web", "-k", "5s"][..],
        &["--name=web", "start", "-k5s", "app.js"],
        &["-n", "web", "-k", "5s", "start", "app.js"],
        &["start", "-nweb", "app.js", "--kill-timeout=5s"],
    ] {
        let parsed = run(words);
        assert_eq!(parsed.command.name, "start", "{words:?}");
        assert_eq!(parsed.operands, ["app.js"], "{words:?}");
        assert_eq!(parsed.text("name"), Some("web"), "{words:?}");
        assert_eq!(parsed.duration("kill-timeout"), Some(Duration::from_secs(5)));
    }
}

#[test]
fn the_last_of_a_repeated_option_wins_and_lists_add_up() {
    let parsed =
        run(&["start", "a", "-n", "x", "-n", "y", "--env", "A=1", "--env", "B=2", "--no-wait"]);
    assert_eq!(parsed.text("name"), Some("y"));
    assert_eq!(parsed.texts("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
    assert!(!parsed.flag("wait"));
    assert!(run(&["start", "a", "--no-wait", "--wait"]).flag("wait"));
}

#[test]
fn what_follows_two_dashes_belongs_to_the_program() {
    let parsed = run(&["start", "a", "--", "--name", "x", "--", "-i"]);
    assert_eq!(parsed.rest, ["--name", "x", "--", "-i"]);
    assert_eq!(parsed.text("name"), None);
    assert_eq!(refused(&["stop", "a", "--", "x"]).0, "stop: nothing may follow '--' here");
}

#[test]
fn joined_letters_are_read_one_by_one() {
    let parsed = run(&["list", "-wmq"]);
    assert!(parsed.flag("wide") && parsed.flag("mini-list") && parsed.global().quiet);
}

#[test]
fn numbers_with_a_sign_are_operands_of_scale() {
    assert_eq!(run(&["scale", "web", "-2"]).operands, ["web", "-2"]);
    assert_eq!(run(&["scale", "web", "+1", "--no-wait"]).operands, ["web", "+1"]);
    assert_eq!(run(&["start", "a", "-i", "-1"]).text("instances"), Some("-1"));
}

#[test]
fn a_duration_may_follow_refresh() {
    assert_eq!(run(&["ls", "--refresh", "5s"]).duration("refresh"), Some(Duration::from_secs(5)));
    let bare = run(&["ls", "--refresh", "web"]);
    assert!(bare.flag("refresh") && bare.operands == ["web"]);
}

#[test]
fn global_options_are_understood_everywhere() {
    let global =
        run(&["--json", "-s", "ls", "--home", "/d", "--timeout", "2s", "--no-spawn"]).global();
    assert!(global.json && global.quiet && global.no_spawn);
    assert_eq!(global.home, Some("/d".into()));
    assert_eq!(global.timeout, Some(Duration::from_secs(2)));
    assert_eq!(run(&["ls", "--no-color"]).global().color, Color::Never);
    assert_eq!(run(&["ls", "--color", "always"]).global().color, Color::Always);
    assert_eq!(run(&["ls", "--system"]).global().scope, Some(Scope::System));
    assert_eq!(run(&["ls", "--system", "--user"]).global().scope, Some(Scope::User));
}

#[test]
fn help_and_version_are_found_anywhere() {
    let wish = |words: &[&str]| parse(words.iter().map(Into::into).collect()).unwrap();
    assert!(matches!(wish(&["--help"]), Wish::Help(None)));
    assert!(matches!(wish(&["stop", "-h"]), Wish::Help(Some(command)) if command.name == "stop"));
    assert!(matches!(wish(&["-v"]), Wish::Version));
    assert!(matches!(wish(&["-V"]), Wish::Version));
    assert!(matches!(wish(&[]), Wish::Nothing));
    assert!(matches!(wish(&["--json"]), Wish::Nothing));
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_the_catalogue() {
    for (words, message, hint) in [
        (&["strat"][..], "unknown command 'strat'", Some("did you mean 'start'? (pmd help)")),
        (&["start", "--nmae"], "start: unknown option '--nmae'", Some("did you mean '--name'?")),
        (&["start", "a", "--name"], "start: '--name' needs a value", None),
        (
            &["start", "a", "--kill-timeout", "5x"],
            "start: '--kill-timeout 5x' is not a duration",
            Some("500ms, 5s, 2m; a bare number is milliseconds"),
        ),
        (
            &["logs", "--lines", "x"],
            "logs: '--lines x' is not a number",
            Some("a whole number, 0 or more"),
        ),
        (
            &["start", "a", "--log-max-size", "12X"],
            "start: '--log-max-size 12X' is not a size",
            Some("100K, 100M, 1G; a bare number is bytes"),
        ),
        (
            &["start", "a", "--restart", "maybe"],
            "start: '--restart maybe' is not one of always, on-failure, never",
            None,
        ),
        (
            &["plus"],
            "'plus' is a PM2 cloud command and not part of pmd",
            Some("pmd ls, pmd logs and pmd events work without an account"),
        ),
        (&["ls", "--no-wide=1"], "list: '--no-wide' takes no value", None),
    ] {
        let told = refused(words);
        assert_eq!((told.0.as_str(), told.1.as_deref()), (message, hint), "{words:?}");
    }
}

#[test]
fn options_and_commands_of_later_versions_are_neither_taken_nor_guessed_at() {
    for words in [&["start", "a", "--container"][..], &["monit"], &["startup"]] {
        let failure = parse(words.iter().map(Into::into).collect()).unwrap_err();
        assert_eq!(failure.why.as_deref(), Some("not supported by this version"), "{words:?}");
    }
}

#[test]
fn words_that_are_no_text_or_too_many_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = OsString::from_vec(vec![b'a', 0xff]);
    assert!(parse(vec!["stop".into(), bytes]).unwrap_err().message.ends_with("is not UTF-8"));
    let many = vec!["stop".into(); MAX_WORDS + 1];
    assert_eq!(parse(many).unwrap_err().exit, crate::cli::exit::Exit::Usage);
}

#[test]
fn operands_are_counted() {
    assert_eq!(refused(&["stop"]).0, "stop: what?");
    assert_eq!(refused(&["jlist", "x"]).0, "jlist: 'x' is one word too many");
    assert_eq!(refused(&["scale", "web"]).0, "scale: something is missing");
}
