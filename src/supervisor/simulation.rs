//! The supervisor by chance: random requests, deaths, delays and losses of the daemon, and what
//! must hold after each of them.
//!
//! A seed decides everything. `simulation/world.rs` plays what surrounds the supervisor;
//! `simulation/laws.rs` says what must hold. A seed that once failed is kept in [`REGRESSIONS`] and
//! run first.

use std::rc::Rc;
use std::time::Duration;

use crate::base::{ChildId, ExitStatus, ProcId, Signal};
use crate::supervisor::schedule::Schedule;
use crate::supervisor::spec::{
    AppSpec, Check, Condition, Dependency, ExecMode, HealthCheck, OnFail, Overlap, Ports, Restart,
    Serving,
};
use crate::supervisor::tests::spec;
use crate::supervisor::vocabulary::{
    Action, EnvChange, Existing, Input, Options, Patience, Redefinition, Request, Scale, Target,
    Until,
};

use world::World;

mod laws;
mod world;

/// Seeds that failed once. They mean something only as long as the sequences they stand for stay
/// the same: whoever changes what is drawn looks for new ones.
const REGRESSIONS: [u64; 3] = [
    // The successor of a run that had lasted too long took its place while that was being stopped.
    121,
    // A delete that failed because of an unstoppable predecessor was not saved.
    12_123, // A plain stop waited as long as an earlier one that was given more time.
    68_056,
];

/// Sequences in one run of the tests, and the most steps in one.
const SEQUENCES: u64 = 10_000;
const STEPS: u32 = 200;

#[test]
fn whatever_happens_the_laws_hold() {
    let seeds = match from_environment("PMD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..from_environment("PMD_SEQUENCES").unwrap_or(SEQUENCES) + 1,
    };
    if from_environment("PMD_SEED").is_none() {
        REGRESSIONS.into_iter().for_each(run);
    }
    let workers = 2;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let seeds = seeds.clone().filter(move |seed| seed % workers == worker);
            scope.spawn(|| seeds.for_each(run));
        }
    });
}

/// `PMD_SEED=17 cargo test whatever_happens` runs one sequence and prints it; with
/// `PMD_SEQUENCES=10000000` it runs that many.
fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64) {
    let _name = Seed(seed);
    let mut random = Random::new(seed);
    let mut apps = apps(&mut random);
    let mut world = World::new(random.fork());
    // Apart from the rest, so that seeds of before the clock mean what they did.
    let mut clock = (seed % 4 == 1).then(|| Random::new(!seed));
    if let Some(clock) = &mut clock {
        apps.iter_mut().for_each(|app| give_times(clock, Rc::make_mut(app)));
    }
    // Short ones more often: they find most, and are read more easily.
    let steps = random.below(STEPS).min(random.below(STEPS)) + 1;
    // Dependencies are by name: who has two of them satisfies nobody.
    let mixed = seed % 5 == 2 && apps.iter().all(|app| app.depends_on.is_empty());
    create(&mut random, &mut world, &apps);
    for _ in 0..steps {
        if mixed && random.one_in(8) {
            step_beside(&mut random, &mut world, &apps);
        } else {
            step(&mut random, &mut world, &apps);
        }
        if let Some(clock) = &mut clock
            && clock.one_in(3)
        {
            world.ring(clock);
        }
        world.check();
        if world.is_going_down() {
            break;
        }
    }
    world.finish();
}

/// Says which sequence failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with PMD_SEED={}", self.0);
        }
    }
}

fn step(random: &mut Random, world: &mut World, apps: &[Rc<AppSpec>]) {
    match random.below(100) {
        0..30 => {
            let time = match random.below(10) {
                0..4 => u64::from(random.below(60)),
                4..8 => world.until_deadline(),
                8 => u64::from(random.below(4000)),
                _ => u64::from(random.below(60_000)),
            };
            world.pass(Duration::from_millis(time));
        }
        30..48 => {
            if let Some(child) = world.some_alive(random) {
                world.end(child, some_status(random));
            }
        }
        48..58 => {
            if let Some(child) = world.some_alive(random) {
                world.hand_in(Input::Ready { child });
                world.hand_in_listening(child);
            }
        }
        58..60 => {
            if let Some(child) = world.some_alive(random) {
                world.hand_in(Input::Measured { child, memory: u64::from(random.below(3)) });
            }
        }
        60..62 => {
            let child = ChildId(u64::from(random.below(300)));
            world.hand_in_if_unknown(match random.below(6) {
                4 => Input::Measured { child, memory: 9 },
                0 => Input::Ready { child },
                1 => Input::Exited { child, status: ExitStatus::Unknown },
                3 => Input::Probed { child, probe: world::FAILED },
                2 => Input::SpawnFailed { child, error: world::NO_PROGRAM },
                _ => Input::Swept { child, left: 1 },
            });
        }
        62..65 => world.change_weather(random),
        65..67 => world.lose_the_daemon(random),
        67..75 => create(random, world, apps),
        75 if random.one_in(8) => world.ask(Request::Shutdown),
        _ => command(random, world),
    }
}

/// Things that happen at times of day.
fn give_times(random: &mut Random, app: &mut AppSpec) {
    if random.one_in(2) {
        app.watch = vec!["/srv".to_owned()];
    }
    let schedule = Schedule::parse(random.pick(["* * * * * *", "*/7 * * * * *", "0 * * * *"])).ok();
    match random.below(3) {
        0 => {}
        1 => app.cron_restart = schedule,
        _ => {
            app.restart = Restart::Once;
            app.schedule = schedule;
            app.overlap = random.pick([Overlap::Skip, Overlap::Kill, Overlap::Queue]);
            app.timeout = random.pick([None, Some(40), Some(5000)]).map(Duration::from_millis);
        }
    }
}

fn create(random: &mut Random, world: &mut World, apps: &[Rc<AppSpec>]) {
    let existing = match random.below(8) {
        0..3 => Existing::Refuse,
        3..5 => Existing::Replace,
        5..7 => Existing::Apply,
        _ => Existing::Rename,
    };
    let mut chosen: Vec<Rc<AppSpec>> =
        apps.iter().filter(|_| !random.one_in(4)).map(Rc::clone).collect();
    if existing == Existing::Rename && world.is_crowded() {
        return;
    }
    for app in &mut chosen {
        if random.one_in(4) {
            let app = Rc::make_mut(app);
            app.args = [random.below(2).to_string()].iter().collect();
            app.instances = random.below(3) + 1;
        }
    }
    world.ask(Request::Create { apps: chosen, existing, options: options(random) });
}

/// Processes whose names do not say what they run: they are added beside others, and restarted
/// under the names of others.
fn step_beside(random: &mut Random, world: &mut World, apps: &[Rc<AppSpec>]) {
    let count = u32::try_from(apps.len()).unwrap();
    let app = Rc::clone(&apps[random.below(count) as usize]);
    if random.one_in(2) {
        if !world.is_crowded() {
            let (count, start) = (random.below(3), random.one_in(2));
            let first = random.one_in(3).then(|| ProcId(random.below(10)));
            world.ask(Request::Add { app, count, first, start, options: options(random) });
        }
        return;
    }
    let Some((id, spec)) = world.some_process(random) else { return };
    let spec = AppSpec { name: app.name.clone(), ..AppSpec::clone(&spec) };
    let change = Some(Redefinition::Whole(Rc::new(spec)));
    let action = match random.below(3) {
        0 => Action::Reload { change },
        _ => Action::Restart { change, kill_timeout: None },
    };
    let targets = vec![Target::Id(id)];
    world.ask(Request::Command { action, targets, options: options(random) });
}

fn command(random: &mut Random, world: &mut World) {
    let targets = targets(random);
    let kill_timeout =
        random.one_in(5).then(|| Duration::from_millis(u64::from(random.below(300))));
    let change = random.one_in(3).then(|| {
        Redefinition::Environment(EnvChange {
            inherited: None,
            env: vec![("N".to_owned(), random.below(3).to_string())],
            port: random.one_in(3).then(|| ports(random)),
        })
    });
    let action = match random.below(20) {
        0..4 => Action::Start,
        4..8 => Action::Stop { kill_timeout },
        8..11 => Action::Restart { change, kill_timeout },
        11..14 => Action::Reload { change },
        14..16 => Action::Delete,
        16 => Action::Signal(Signal::HUP),
        17 => Action::Reset,
        18 => Action::Scale(match random.below(3) {
            0 => Scale::To(random.below(5)),
            1 => Scale::Up(1),
            _ => Scale::Down(1),
        }),
        _ => {
            let until = random.pick([
                Until::Online,
                Until::Ready,
                Until::Healthy,
                Until::Stopped,
                Until::Done,
            ]);
            let timeout = random.one_in(2).then(|| Duration::from_millis(700));
            return world.ask(Request::Wait { targets, until, timeout });
        }
    };
    world.ask(Request::Command { action, targets, options: options(random) });
}

fn targets(random: &mut Random) -> Vec<Target> {
    let target = match random.below(8) {
        0 => Target::All,
        1 => Target::Id(ProcId(random.below(12))),
        2 => Target::Instance("a".to_owned(), random.below(3)),
        _ => Target::Name(["a", "b", "c", "d", "x"][random.below(5) as usize].to_owned()),
    };
    let mut targets = vec![target];
    if random.one_in(4) {
        targets.push(Target::Name("b".to_owned()));
    }
    targets
}

fn options(random: &mut Random) -> Options {
    Options {
        wait: match random.below(4) {
            0 => Patience::None,
            1 => Patience::Stable,
            _ => Patience::Online,
        },
        parallel: random.one_in(4).then(|| random.below(2) as usize + 1),
        timeout: random.one_in(5).then(|| Duration::from_millis(u64::from(random.below(3000)))),
    }
}

fn some_status(random: &mut Random) -> ExitStatus {
    match random.below(6) {
        0..2 => ExitStatus::Code(0),
        2..4 => ExitStatus::Code(1),
        4 => ExitStatus::Code(64),
        _ => ExitStatus::Signal { signal: Signal::KILL, core: false },
    }
}

fn health(random: &mut Random) -> HealthCheck {
    let time = |random: &mut Random, of| Duration::from_millis(random.pick::<u64, 3>(of));
    HealthCheck {
        check: Check::Tcp { host: "h".to_owned(), port: random.pick([None, Some(1)]) },
        interval: time(random, [1000, 8000, 30_000]),
        timeout: Duration::from_secs(5),
        retries: random.below(3) + 1,
        start_period: time(random, [0, 0, 10_000]),
        on_fail: random.pick([OnFail::Restart, OnFail::Restart, OnFail::None]),
    }
}

/// Few, so that they are not enough.
fn ports(random: &mut Random) -> Ports {
    let first = 10 + u16::try_from(random.below(3)).unwrap();
    let last = first + u16::try_from(random.below(4)).unwrap();
    random.pick([Ports::One(first), Ports::Range { first, last }, Ports::Auto { first, last }])
}

/// One to four apps of all kinds, one in three times with dependencies among them.
fn apps(random: &mut Random) -> Vec<Rc<AppSpec>> {
    let dependent = random.one_in(3);
    let count = random.below(4) as usize + 1;
    let names = &["a", "b", "c", "d"][..count];
    let mut apps = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let mut app = spec(name);
        app.instances = random.below(3) + 1;
        app.autostart = !random.one_in(6);
        app.wait_ready = random.one_in(2);
        // Not drawn, so that the sequences stay what they were.
        if *name == "d" {
            app.exec_mode = ExecMode::Cluster;
        }
        app.treekill = !random.one_in(4);
        app.max_restarts = random.pick([0, 1, 3, 16]);
        app.max_memory_restart = random.pick([None, Some(0), Some(1)]);
        app.min_uptime = Duration::from_millis(random.pick([0, 50, 1000, 40_000]));
        app.restart_delay = Duration::from_millis(random.pick([0, 0, 120, 20_000]));
        app.exp_backoff_restart_delay = Duration::from_millis(random.pick([0, 100, 100, 16_000]));
        app.kill_timeout = Duration::from_millis(random.pick([0, 100, 1600]));
        app.listen_timeout = Duration::from_millis(random.pick([100, 3000]));
        app.stop_exit_codes = if random.one_in(4) { vec![64] } else { vec![] };
        app.restart =
            random.pick([Restart::Always, Restart::Always, Restart::OnFailure, Restart::Never]);
        if random.one_in(8) {
            app.restart = Restart::Once;
        }
        let port = random.one_in(3).then(|| ports(random));
        let health = random.one_in(3).then(|| health(random));
        if port.is_some() || health.is_some() {
            app.serving = Some(Box::new(Serving { port, health }));
        }
        for &other in names[..index].iter().filter(|_| dependent) {
            if random.one_in(2) {
                let condition = random.pick([
                    Condition::Started,
                    Condition::Ready,
                    Condition::Healthy,
                    Condition::Done,
                ]);
                app.depends_on.push(Dependency { name: other.to_owned(), condition });
            }
        }
        apps.push(Rc::new(app));
    }
    apps
}

/// xorshift64*: small, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Neighbouring seeds are to differ in all bits.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((mixed ^ (mixed >> 31)).max(1))
    }

    fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `limit` - 1.
    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from((self.next() >> 32) % u64::from(limit)).unwrap()
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.below(many) == 0
    }

    fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        from[self.below(u32::try_from(N).unwrap()) as usize]
    }
}
