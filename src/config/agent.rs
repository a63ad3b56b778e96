//! What the agent is to do: the variables and files of PM2's agent, to a valid [`AgentConfig`].
//!
//! Pure. A variable beats the file that `pmd link` writes (`agent.json5`), which has the keys; which
//! transporters there are is said by variables, then by `config.json`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// Bytes of the longest name of a host, a group or a client.
const MAX_NAME: usize = 128;

/// A valid configuration, with something to connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentConfig {
    /// Where end points are asked for; `None`: all of them are given.
    pub root: Option<String>,
    pub public_key: String,
    pub secret_key: Secret,
    pub machine_name: String,
    /// The version of PM2 that is told.
    pub pm2_version: String,
    /// An end point, or its name among those that the root tells.
    pub websocket: Option<String>,
    /// The same for where events are pushed to, and where actions come from.
    pub axon: Option<[String; 2]>,
    pub mqtt: Option<MqttConfig>,
    /// The status is told as patches of the one before.
    pub patches: bool,
    /// For everything but the broker.
    pub tls: TlsFiles,
    /// Exceptions come with the lines of source around them.
    pub context: bool,
    /// Actions that are obeyed; `None`: those that do no lasting harm.
    pub remote_methods: Option<Vec<String>>,
}

/// The transporter to a broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MqttConfig {
    pub endpoint: Secret,
    pub group: String,
    pub prefix: String,
    pub client_id: Option<String>,
    pub keep_alive: u16,
    pub metrics_interval: Duration,
    pub state_refresh: Duration,
    pub tls: TlsFiles,
    pub remote_methods: Option<Vec<String>>,
}

/// Whom TLS trusts, and how it proves who we are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsFiles {
    /// `None`: those that browsers trust.
    pub authorities: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// What is never shown.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(super::secrets::MASK)
    }
}

/// Where it all comes from.
pub struct Sources<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// `agent.json5`; `Null`: there is none.
    pub link: &'a Value,
    /// `config.json`; `Null`: there is none.
    pub file: &'a Value,
    pub hostname: &'a str,
    pub pm2_version: &'a str,
    /// Tells hosts of one name apart, where nobody named them.
    pub number: u16,
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources")
    }
}

impl Sources<'_> {
    fn first(&self, variables: &[&str], key: &str) -> Option<String> {
        let said = variables.iter().find_map(|name| (self.variable)(name));
        said.or_else(|| text(self.link.get(key)?)).filter(|value| !value.is_empty())
    }

    /// Whether a transporter is switched on, and where it leads.
    fn transporter(&self, name: &str, default: bool) -> Option<&Value> {
        let variable = format!("AGENT_TRANSPORT_{}", name.to_ascii_uppercase());
        let entry = self.file.pointer("/transporters").and_then(|all| all.get(name));
        let entry = entry.unwrap_or(&Value::Null);
        let is_on = match (self.variable)(&variable) {
            Some(word) => word == "true",
            None => entry.get("enabled").and_then(Value::as_bool).unwrap_or(default),
        };
        is_on.then_some(entry)
    }

    fn endpoint(&self, variable: &str, entry: Option<&Value>, default: &str) -> String {
        let said = (self.variable)(variable).filter(|value| !value.is_empty());
        said.or_else(|| text(entry?)).unwrap_or_else(|| default.to_owned())
    }
}

/// Reads the configuration; `None`: there is nothing that the agent could connect to.
///
/// # Errors
///
/// What is wrong, as a sentence.
pub fn read(from: &Sources<'_>) -> Result<Option<AgentConfig>, String> {
    if (from.variable)("PM2_NO_INTERACTION").is_some() {
        return Ok(None);
    }
    let key = |names: &[&str], key| from.first(names, key).unwrap_or_default();
    let public_key = key(&["PM2_PUBLIC_KEY", "KEYMETRICS_PUBLIC"], "public_key");
    let secret_key = key(&["PM2_SECRET_KEY", "KEYMETRICS_SECRET"], "secret_key");
    let root = from
        .first(&["KEYMETRICS_NODE"], "info_node")
        .map(|root| if root.contains("://") { root } else { format!("https://{root}") });
    let has_keys = !public_key.is_empty() && !secret_key.is_empty();
    let mut websocket = from
        .transporter("websocket", true)
        .map(|entry| from.endpoint("AGENT_WEBSOCKET_ENDPOINT", entry.get("endpoints"), "ws"));
    let mut axon = from.transporter("axon", false).map(|entry| {
        let endpoint = |variable, key, default: &str| {
            let entry = entry.get("endpoints").and_then(|both| both.get(key));
            from.endpoint(variable, entry, default)
        };
        [
            endpoint("AGENT_PUSH_ENDPOINT", "push", "push"),
            endpoint("AGENT_REVERSE_ENDPOINT", "pull", "reverse"),
        ]
    });
    let reachable = |place: &str| root.is_some() || place.contains("://");
    websocket = websocket.filter(|place| has_keys && reachable(place));
    axon = axon.filter(|both| has_keys && both.iter().all(|place| reachable(place)));
    let mqtt = match from.transporter("mqtt", false) {
        Some(entry) => Some(mqtt(from, entry)?),
        None => None,
    };
    if websocket.is_none() && axon.is_none() && mqtt.is_none() {
        return Ok(None);
    }
    let named = from.first(&["PM2_MACHINE_NAME", "INSTANCE_NAME"], "machine_name");
    let machine_name = named.unwrap_or_else(|| match (&websocket, &axon) {
        (None, None) => from.hostname.to_owned(),
        _ => format!("{}-{:04x}", from.hostname, from.number),
    });
    let flag = |name: &str| (from.variable)(name);
    Ok(Some(AgentConfig {
        root: root.filter(|_| websocket.is_some() || axon.is_some()),
        public_key,
        secret_key: Secret(secret_key),
        machine_name: name(&machine_name),
        pm2_version: flag("PM2_VERSION").unwrap_or_else(|| from.pm2_version.to_owned()),
        websocket,
        axon,
        mqtt,
        patches: flag("WS_JSON_PATCH").is_some(),
        tls: TlsFiles {
            authorities: flag("NODE_EXTRA_CA_CERTS").map(PathBuf::from),
            ..TlsFiles::default()
        },
        context: flag("PM2_AGENT_ENABLE_CONTEXT_ON_ERROR").is_none_or(|word| word == "true"),
        remote_methods: words(from.file.get("remote_methods"), "remote_methods")?,
    }))
}

fn mqtt(from: &Sources<'_>, entry: &Value) -> Result<MqttConfig, String> {
    let value = |key: &str| {
        let said = (from.variable)(&format!("AGENT_MQTT_{}", key.to_ascii_uppercase()));
        let said = said.filter(|said| !said.is_empty());
        said.or_else(|| text(entry.get(key).or_else(|| entry.get("options")?.get(key))?))
    };
    let endpoint = value("endpoint").or_else(|| text(entry.get("endpoints")?));
    let endpoint = endpoint.ok_or("mqtt: no end point is given (AGENT_MQTT_ENDPOINT)")?;
    let number = |key: &str, default: u64, least: u64, most: u64| match value(key) {
        None => Ok(default),
        Some(word) => word
            .parse()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("mqtt: '{key}' must be a number from {least} to {most}")),
    };
    let prefix = value("prefix").unwrap_or_else(|| "pmd/v1".to_owned());
    if prefix.is_empty() || prefix.len() > MAX_NAME || prefix.contains(['+', '#', '\0']) {
        return Err("mqtt: 'prefix' cannot be the begin of a topic".to_owned());
    }
    let keep_alive = number("keepalive", 60, 1, 43_200)?;
    let file = |key: &str| value(key).map(PathBuf::from);
    let tls = TlsFiles {
        authorities: file("ca_file"),
        certificate: file("cert_file"),
        key: file("key_file"),
    };
    let own = entry.get("remote_methods").or_else(|| from.file.get("remote_methods"));
    Ok(MqttConfig {
        endpoint: Secret(endpoint),
        group: name(&value("group").unwrap_or_else(|| "default".to_owned())),
        prefix,
        client_id: value("client_id").map(|id| name(&id)),
        keep_alive: u16::try_from(keep_alive).unwrap_or(60),
        metrics_interval: Duration::from_secs(number("metrics_interval", 30, 1, 86_400)?),
        state_refresh: Duration::from_secs(number("state_refresh", 300, 1, 86_400)?),
        tls,
        remote_methods: words(own, "remote_methods")?,
    })
}

/// Numbers and flags are written as they are in a variable.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn words(value: Option<&Value>, key: &str) -> Result<Option<Vec<String>>, String> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    let list: Option<Vec<String>> = value
        .as_array()
        .and_then(|list| list.iter().map(|word| word.as_str().map(str::to_owned)).collect());
    list.map(Some).ok_or_else(|| format!("config.json: '{key}' must be a list of names"))
}

/// What names a host or a group: in one line, and not endless.
fn name(text: &str) -> String {
    let mut name = String::new();
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if name.len() + letter.len_utf8() > MAX_NAME {
            break;
        }
        name.push(letter);
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(
        variables: &[(&str, &str)],
        link: &Value,
        file: &Value,
    ) -> Result<Option<AgentConfig>, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        read(&Sources {
            variable: &variable,
            link,
            file,
            hostname: "vm",
            pm2_version: "7.0.4",
            number: 0x1f,
        })
    }

    const KEYS: [(&str, &str); 3] =
        [("PM2_PUBLIC_KEY", "pub"), ("PM2_SECRET_KEY", "sec"), ("KEYMETRICS_NODE", "http://r")];

    #[test]
    fn without_keys_or_a_root_there_is_nothing_to_do() {
        let no = &Value::Null;
        assert_eq!(config(&[], no, no), Ok(None));
        assert_eq!(config(&KEYS[..2], no, no), Ok(None));
        assert_eq!(config(&KEYS[1..], no, no), Ok(None));
        assert_eq!(config(&[&KEYS[..], &[("PM2_NO_INTERACTION", "")]].concat(), no, no), Ok(None));
        let off = [&KEYS[..], &[("AGENT_TRANSPORT_WEBSOCKET", "no")]].concat();
        assert_eq!(config(&off, no, no), Ok(None));
        let literal = [&KEYS[..2], &[("AGENT_WEBSOCKET_ENDPOINT", "ws://h:1/x")]].concat();
        let found = config(&literal, no, no).unwrap().unwrap();
        assert_eq!((found.root, found.websocket.as_deref()), (None, Some("ws://h:1/x")));
    }

    #[test]
    fn keys_alone_switch_the_websocket_on() {
        let found = config(&KEYS, &Value::Null, &Value::Null).unwrap().unwrap();
        assert_eq!(found.root.as_deref(), Some("http://r"));
        assert_eq!((found.websocket.as_deref(), found.axon, found.mqtt), (Some("ws"), None, None));
        assert_eq!((found.machine_name.as_str(), found.context), ("vm-001f", true));
        assert!(!format!("{:?}", found.secret_key).contains("sec"));
    }

    #[test]
    fn a_variable_beats_the_link_and_the_file() {
        let link = json!({"public_key": "p", "secret_key": "s", "info_node": "r.example",
            "machine_name": "edge"});
        let found = config(&KEYS[..1], &link, &Value::Null).unwrap().unwrap();
        assert_eq!((found.public_key.as_str(), found.secret_key.0.as_str()), ("pub", "s"));
        assert_eq!(found.root.as_deref(), Some("https://r.example"));
        assert_eq!(found.machine_name, "edge");
        let file = json!({"transporters": {
            "axon": {"enabled": true, "endpoints": {"push": "p2", "pull": "http://h:1"}},
            "websocket": {"enabled": false, "endpoints": "other"}}, "remote_methods": []});
        let found = config(&[], &link, &file).unwrap().unwrap();
        assert_eq!((found.websocket, found.remote_methods), (None, Some(vec![])));
        assert_eq!(found.axon, Some(["p2".to_owned(), "http://h:1".to_owned()]));
        let variables = [("AGENT_TRANSPORT_WEBSOCKET", "true"), ("AGENT_TRANSPORT_AXON", "0")];
        let found = config(&variables, &link, &file).unwrap().unwrap();
        assert_eq!((found.websocket.as_deref(), found.axon), (Some("other"), None));
    }

    #[test]
    fn a_broker_needs_no_keys() {
        let variables = [
            ("AGENT_TRANSPORT_MQTT", "true"),
            ("AGENT_MQTT_ENDPOINT", "mqtt://u:p@h"),
            ("AGENT_MQTT_KEEPALIVE", "5"),
        ];
        let file = json!({"transporters": {"mqtt": {"group": "shop", "keepalive": 7,
            "options": {"metrics_interval": 9}}}});
        let found = config(&variables, &Value::Null, &file).unwrap().unwrap();
        assert!(!format!("{found:?}").contains("u:p"), "{found:?}");
        let mqtt = found.mqtt.unwrap();
        assert_eq!((mqtt.group.as_str(), mqtt.prefix.as_str()), ("shop", "pmd/v1"));
        assert_eq!((mqtt.keep_alive, mqtt.metrics_interval.as_secs()), (5, 9));
        assert_eq!((found.machine_name.as_str(), found.root), ("vm", None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let on = ("AGENT_TRANSPORT_MQTT", "true");
        let at = ("AGENT_MQTT_ENDPOINT", "mqtt://h");
        for (more, part) in [
            (vec![on], "AGENT_MQTT_ENDPOINT"),
            (vec![on, at, ("AGENT_MQTT_KEEPALIVE", "0")], "'keepalive' must be a number from 1"),
            (vec![on, at, ("AGENT_MQTT_PREFIX", "a/#")], "'prefix'"),
        ] {
            let said = config(&more, &Value::Null, &Value::Null).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
        let file = json!({"remote_methods": "restart"});
        assert!(config(&KEYS, &Value::Null, &file).unwrap_err().contains("list of names"));
    }

    #[test]
    fn a_name_is_one_line_and_not_endless() {
        let long = "\u{e9}".repeat(100);
        let found = config(
            &[&KEYS[..], &[("PM2_MACHINE_NAME", &long)]].concat(),
            &Value::Null,
            &Value::Null,
        );
        assert_eq!(found.unwrap().unwrap().machine_name.len(), 128);
        assert_eq!(name("a\r\nb"), "ab");
    }
}
