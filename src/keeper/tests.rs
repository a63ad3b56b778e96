use super::*;
use crate::sys::testing::{Shell, plain};

fn keeper() -> Keeper {
    Keeper {
        signals: Signals::install(&[]).unwrap(),
        spawner: Spawner::new().unwrap(),
        args: CArgs::new(),
        env: CArgs::new(),
        path: CString::default(),
        program: fds::null_device().unwrap(),
        ready: None,
        null: fds::null_device().unwrap(),
        nofile: 0,
        held: Vec::with_capacity(3),
        daemon: None,
        start_at: None,
        delay: FIRST_DELAY,
        before: 0,
        last: ExitStatus::Unknown,
        was_up: false,
        signals_due: 0,
        hurry: false,
        code: Code::default(),
        trim_at: None,
    }
}

/// A daemon of its own, which is a shell; and that one's end of the link.
fn with_daemon(keeper: &mut Keeper) -> (Shell, OwnedFd) {
    let shell = Shell::start("read x; exit 7", plain());
    let (link, theirs) = packet::pair().unwrap();
    keeper.daemon = Some(Running::new(shell.pid, clock::now().mono, link));
    (shell, theirs)
}

fn say(link: &OwnedFd, word: Word, fd: Option<&OwnedFd>) {
    packet::send(link, &word.encode(), fd.map(|fd| fd.as_fd())).unwrap();
}

fn said(link: &OwnedFd) -> Vec<(Word, Option<u64>)> {
    let messages = std::iter::from_fn(|| packet::receive(link).ok().flatten());
    let inode = |fd: OwnedFd| fds::inode_of(fd.as_fd()).unwrap();
    messages.map(|(words, fd)| (Word::decode(words).unwrap(), fd.map(inode))).collect()
}

#[test]
fn what_one_daemon_hands_over_the_next_is_given() {
    let mut keeper = keeper();
    let pipes: Vec<_> = (0..4).map(|_| fds::open_pipe_rdwr().unwrap()).collect();
    let inodes: Vec<_> = pipes.iter().map(|pipe| fds::inode_of(pipe.as_fd()).unwrap()).collect();
    let (_first, link) = with_daemon(&mut keeper);
    keeper.hand_over();
    let hello = Word::Hello { version: VERSION, before: 0, last: ExitStatus::Unknown };
    assert_eq!(said(&link), [(hello, None), (Word::All, None)]);
    say(&link, Word::Up { version: VERSION }, None);
    for (key, pipe) in (0..).zip(&pipes) {
        // The last is one too many.
        say(&link, Word::Hold { key }, Some(pipe));
    }
    say(&link, Word::Drop { key: 0 }, None);
    say(&link, Word::Drop { key: 77 }, None);
    say(&link, Word::Hold { key: 1 }, Some(&pipes[0]));
    // Without what belongs to it, and what nobody knows: passed over.
    say(&link, Word::Hold { key: 5 }, None);
    packet::send(&link, &[u64::MAX; 4], None).unwrap();
    drop(link);
    keeper.hear();
    assert!(keeper.daemon.as_ref().is_some_and(|daemon| daemon.up && !daemon.linked));
    let (_second, link) = with_daemon(&mut keeper);
    keeper.hand_over();
    let held = said(&link);
    let expected = [
        (hello, None),
        (Word::Held { key: 2 }, Some(inodes[2])),
        (Word::Held { key: 1 }, Some(inodes[0])),
        (Word::All, None),
    ];
    assert_eq!(held, expected);
}

#[test]
fn many_descriptors_are_handed_over_as_fast_as_they_are_taken() {
    let mut keeper = keeper();
    let pipe = fds::open_pipe_rdwr().unwrap();
    keeper.held = (0..500).map(|key| (key, pipe.try_clone().unwrap())).collect();
    let (_shell, link) = with_daemon(&mut keeper);
    let mut keys = vec![];
    while keeper.daemon.as_ref().unwrap().handing.is_some() {
        keeper.hand_over();
        keys.extend(said(&link).into_iter().filter_map(|(word, _)| {
            let Word::Held { key } = word else { return None };
            Some(key)
        }));
    }
    assert!(keys.into_iter().eq(0..500));
}

/// Ends the daemon, after `last` words of it; the exit code that the keeper ends with, if it does.
fn ends(keeper: &mut Keeper, status: ExitStatus, last: &[Word]) -> Option<u8> {
    let (_shell, link) = with_daemon(keeper);
    for word in last {
        say(&link, *word, None);
    }
    keeper.daemon_ended(status)
}

#[test]
fn an_orderly_end_is_the_end_and_any_other_a_reason_to_start_again() {
    let killed = ExitStatus::Signal { signal: Signal::KILL, core: false };
    let up = Word::Up { version: VERSION };
    // Not one that never came up: it has said why.
    assert_eq!(ends(&mut keeper(), ExitStatus::Code(6), &[]), Some(6));
    assert_eq!(ends(&mut keeper(), killed, &[]), Some(137));
    assert_eq!(
        ends(&mut keeper(), ExitStatus::Code(0), &[up, Word::End { again: false }]),
        Some(0)
    );

    let mut it = keeper();
    let mut delays = vec![];
    for _ in 0..9 {
        assert_eq!(ends(&mut it, killed, &[up]), None);
        delays.push(it.start_at.unwrap().since(clock::now().mono).as_millis().div_ceil(100));
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
    assert_eq!((it.before, it.last), (9, killed));
    // Nor is one that fails to come up again given up.
    assert_eq!(ends(&mut it, ExitStatus::Code(1), &[]), None);
    // Asked for: at once.
    assert_eq!(ends(&mut it, ExitStatus::Code(0), &[up, Word::End { again: true }]), None);
    assert!(it.start_at.unwrap().since(clock::now().mono).is_zero());
}

#[test]
fn a_signal_waits_for_a_daemon_that_serves() {
    let mut keeper = keeper();
    let (shell, link) = with_daemon(&mut keeper);
    keeper.signals_due = 1;
    keeper.pass_on();
    assert_eq!(keeper.signals_due, 1);
    say(&link, Word::Up { version: VERSION }, None);
    keeper.hear();
    keeper.pass_on();
    assert_eq!(keeper.signals_due, 0);
    // It dies without a word: the next one is to carry out the order.
    assert_eq!(keeper.daemon_ended(ExitStatus::Unknown), None);
    assert!(keeper.signals_due == 1 && keeper.hurry);
    assert_eq!(
        wait::wait_for(shell.pid).unwrap(),
        ExitStatus::Signal { signal: PASSED_ON[0], core: false }
    );
}
