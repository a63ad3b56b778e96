//! What an app serves and how one can tell that it does: its ports and its health check.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::base::SpawnError;
use crate::supervisor::spec::AppSpec;
use crate::supervisor::spec::record::{Datum, Plain, record, words};

/// Of a longer choice of ports only so many are tried at one start.
const MAX_TRIES: usize = 1024;

/// What most apps do not have; kept apart, so that they pay nothing for it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Serving {
    pub port: Option<Ports>,
    pub health: Option<HealthCheck>,
}

record!(nested Serving { port, health });

/// The ports that the instances of an app may be given. Never 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ports {
    /// For instance 0; further instances get none.
    One(u16),
    /// Instance `i` gets `first` + `i`.
    Range { first: u16, last: u16 },
    /// Each instance gets one that is free.
    Auto { first: u16, last: u16 },
}

impl Ports {
    /// Reads `3000`, `3000-3003` or `auto:5000-5100`; `None` for anything else: 0, more than
    /// 65535, a range that ends before it begins.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (text, auto) = text.strip_prefix("auto:").map_or((text, false), |rest| (rest, true));
        let port = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|&port: &u16| digits && port > 0)
        };
        match text.split_once('-') {
            None if !auto => port(text).map(Self::One),
            None => port(text).map(|port| Self::Auto { first: port, last: port }),
            Some((first, last)) => {
                let (first, last) = (port(first)?, port(last)?);
                (first <= last).then_some(match auto {
                    true => Self::Auto { first, last },
                    false => Self::Range { first, last },
                })
            }
        }
    }

    /// The only port that this instance may have, where it has no choice.
    #[must_use]
    pub fn fixed(self, instance: u32) -> Option<u16> {
        match self {
            Self::One(port) => (instance == 0).then_some(port),
            Self::Range { first, last } => {
                let port = u32::from(first).checked_add(instance)?;
                u16::try_from(port).ok().filter(|&port| port <= last)
            }
            Self::Auto { .. } => None,
        }
    }

    /// The port for an instance: the only one it may have; else the one it had last; else the first
    /// that is not kept for another process; else the first that is free.
    ///
    /// # Errors
    ///
    /// [`SpawnError::PORT_IN_USE`] if there is no choice, [`SpawnError::NO_FREE_PORT`] if there is.
    pub fn choose(
        self,
        instance: u32,
        last: Option<u16>,
        is_kept: &dyn Fn(u16) -> bool,
        is_free: &mut dyn FnMut(u16) -> bool,
    ) -> Result<Option<u16>, SpawnError> {
        let Self::Auto { first, last: end } = self else {
            return match self.fixed(instance) {
                Some(port) if !is_free(port) => Err(SpawnError::PORT_IN_USE),
                port => Ok(port),
            };
        };
        let all = || (first..=end).filter(|&port| Some(port) != last);
        let before = last.filter(|port| (first..=end).contains(port));
        let mut candidates = before
            .into_iter()
            .chain(all().filter(|&port| !is_kept(port)))
            .chain(all().filter(|&port| is_kept(port)))
            .take(MAX_TRIES);
        candidates.find(|&port| is_free(port)).map(Some).ok_or(SpawnError::NO_FREE_PORT)
    }

    /// So many instances can be told apart by their ports; `None`: any number.
    #[must_use]
    pub fn room(self) -> Option<u32> {
        match self {
            Self::One(_) => None,
            Self::Range { first, last } | Self::Auto { first, last } => {
                Some(u32::from(last - first) + 1)
            }
        }
    }
}

/// As it is written in an app file.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => port.fmt(f),
            Self::Range { first, last } => write!(f, "{first}-{last}"),
            Self::Auto { first, last } => write!(f, "auto:{first}-{last}"),
        }
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no port"))
    }
}

impl Plain for Ports {
    fn show(&self) -> Datum<'_> {
        Datum::Owned(self.to_string())
    }

    fn read(value: &Value) -> Option<Self> {
        Self::parse(value.as_str()?)
    }
}

/// How one can tell whether an app serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthCheck {
    pub check: Check,
    /// From the end of one check to the start of the next.
    pub interval: Duration,
    /// A check that takes longer has failed.
    pub timeout: Duration,
    /// Consecutive failures until the app is unhealthy; at least 1.
    pub retries: u32,
    /// Failures do not count this long after a start.
    pub start_period: Duration,
    pub on_fail: OnFail,
}

/// What is missing in a state file.
impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            check: Check::Script(Vec::new()),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            retries: 3,
            start_period: Duration::ZERO,
            on_fail: OnFail::default(),
        }
    }
}

record!(nested HealthCheck { check, interval, timeout, retries, start_period, on_fail });

/// What is tried. `${PORT}` in a URL is the app's port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Check {
    /// `GET`; any status from 200 to 299 is healthy. The URL is a valid one.
    Http(String),
    /// A connection; `port` `None`: the app's own.
    Tcp { host: String, port: Option<u16> },
    /// A program and its arguments; exit code 0 is healthy. Never empty.
    Script(Vec<String>),
}

/// By the name of its kind: `{"http": URL}`, `{"tcp": [HOST, PORT]}`, `{"script": [WORD, ...]}`.
impl Plain for Check {
    fn show(&self) -> Datum<'_> {
        let value = match self {
            Self::Http(url) => url.show(),
            Self::Tcp { host, port } => {
                let port = port.map_or(Datum::Nothing, |port| Datum::Number(port.into()));
                Datum::List(vec![host.show(), port])
            }
            Self::Script(words) => words.show(),
        };
        Datum::Object(vec![(self.kind(), value)])
    }

    fn read(value: &Value) -> Option<Self> {
        let (kind, value) = value.as_object()?.iter().next()?;
        match kind.as_str() {
            "http" => Plain::read(value).map(Self::Http),
            "tcp" => {
                let port = value.get(1)?.as_u64().map(u16::try_from).transpose().ok()?;
                Some(Self::Tcp { host: Plain::read(value.get(0)?)?, port })
            }
            "script" => Plain::read(value).map(Self::Script),
            _ => None,
        }
    }
}

/// What becomes of an app that is unhealthy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnFail {
    /// Apps that are never restarted by themselves are not restarted for this either.
    #[default]
    Restart,
    None,
}

words!(OnFail { Restart = "restart", None = "none" });

/// Stands in a URL for the app's port.
pub const PORT_VARIABLE: &str = "${PORT}";

impl Check {
    /// `http`, `tcp` or `script`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp { .. } => "tcp",
            Self::Script(_) => "script",
        }
    }

    /// Whether it cannot be done without knowing the app's port.
    #[must_use]
    pub fn needs_port(&self) -> bool {
        match self {
            Self::Http(url) => url.contains(PORT_VARIABLE),
            Self::Tcp { port, .. } => port.is_none(),
            Self::Script(_) => false,
        }
    }
}

impl AppSpec {
    #[must_use]
    pub fn ports(&self) -> Option<Ports> {
        self.serving.as_ref()?.port
    }

    #[must_use]
    pub fn health(&self) -> Option<&HealthCheck> {
        self.serving.as_ref()?.health.as_ref()
    }

    /// The port an instance is to serve on: the one it was given, or what its variable `PORT` says.
    #[must_use]
    pub fn port_of(&self, instance: u32, given: Option<u16>) -> Option<u16> {
        if given.is_some() {
            return given;
        }
        let own = self.env.get("PORT");
        let port: u16 = own.or_else(|| self.inherited.get("PORT"))?.parse().ok()?;
        let step = match self.increment_var.as_deref() {
            Some("PORT") if own.is_some() => u16::try_from(instance).ok()?,
            Some(_) | None => 0,
        };
        port.checked_add(step).filter(|&port| port > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::spec;

    #[test]
    fn ports_are_one_a_range_or_a_choice() {
        let (first, last) = (3000, 3003);
        for (text, ports) in [
            ("3000", Some(Ports::One(3000))),
            ("3000-3003", Some(Ports::Range { first, last })),
            ("auto:3000-3003", Some(Ports::Auto { first, last })),
            ("65535", Some(Ports::One(65535))),
            ("0", None),
            ("65536", None),
            ("-1", None),
            ("+1", None),
            ("3003-3000", None),
            ("3000-", None),
            ("auto:", None),
            ("auto:0-5", None),
            ("", None),
            ("http", None),
        ] {
            assert_eq!(Ports::parse(text), ports, "{text}");
            if let Some(ports) = ports {
                assert_eq!(ports.to_string(), text);
            }
        }
    }

    #[test]
    fn an_instance_has_its_own_port() {
        let fixed = |text: &str, instance| Ports::parse(text).unwrap().fixed(instance);
        assert_eq!([fixed("80", 0), fixed("80", 1)], [Some(80), None]);
        assert_eq!([fixed("80-81", 1), fixed("80-81", 2)], [Some(81), None]);
        assert_eq!(fixed("65535-65535", 1), None);
        assert_eq!(fixed("auto:80-81", 0), None);
    }

    #[test]
    fn a_choice_is_the_last_one_then_what_nobody_keeps_then_what_is_free() {
        let ports = Ports::Auto { first: 10, last: 13 };
        let choose = |last, kept: &[u16], taken: &[u16]| {
            ports.choose(5, last, &|port| kept.contains(&port), &mut |port| !taken.contains(&port))
        };
        assert_eq!(choose(None, &[], &[]), Ok(Some(10)));
        assert_eq!(choose(Some(12), &[10], &[]), Ok(Some(12)));
        assert_eq!(choose(Some(12), &[10], &[12]), Ok(Some(11)));
        assert_eq!(choose(Some(99), &[10, 11, 12, 13], &[10]), Ok(Some(11)));
        assert_eq!(choose(None, &[], &[10, 11, 12, 13]), Err(SpawnError::NO_FREE_PORT));
        let one = Ports::One(10).choose(0, None, &|_| false, &mut |_| false);
        assert_eq!(one, Err(SpawnError::PORT_IN_USE));
        assert_eq!(Ports::One(10).choose(1, None, &|_| false, &mut |_| false), Ok(None));
        let mut tries = 0;
        let all = Ports::Auto { first: 1, last: 65535 };
        assert!(
            all.choose(0, None, &|_| false, &mut |_| {
                tries += 1;
                false
            })
            .is_err()
        );
        assert_eq!(tries, MAX_TRIES);
    }

    #[test]
    fn a_port_comes_from_where_the_program_reads_it() {
        let mut app = spec("web");
        assert_eq!(app.port_of(0, None), None);
        app.env.set("PORT", "4000");
        app.increment_var = Some("PORT".to_owned());
        assert_eq!([app.port_of(0, None), app.port_of(2, None)], [Some(4000), Some(4002)]);
        assert_eq!(app.port_of(2, Some(3000)), Some(3000));
    }
}
