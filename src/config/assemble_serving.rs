//! What one app serves: its ports.
//!
//! Pure.

use crate::config::fields::{self, Fields};
use crate::config::resolve::Dialect;
use crate::supervisor::spec::{Environment, Ports, Serving};

/// `None`: nothing of the kind was given.
pub(super) fn serving(
    fields: &mut Fields<'_, '_>,
    env: &mut Environment,
    instances: u32,
) -> Option<Box<Serving>> {
    let port = ports(fields, env, instances);
    port.map(|_| Box::new(Serving { port, health: None }))
}

fn ports(fields: &mut Fields<'_, '_>, env: &mut Environment, instances: u32) -> Option<Ports> {
    let entry = fields.peek("port").cloned()?;
    let expected = "a port, a range like 3000-3003 or auto:5000-5100";
    let ports = fields.read("port", expected, |value| Ports::parse(&fields::as_plain(value)?))?;
    match ports {
        // To PM2 it is a variable, the same for all instances.
        Ports::One(port) if fields.report.origin.dialect == Dialect::Pm2 && instances > 1 => {
            if env.get("PORT").is_none() {
                env.set("PORT", &port.to_string());
            }
            return None;
        }
        Ports::One(_) | Ports::Range { .. } | Ports::Auto { .. } => {}
    }
    if let Some(room) = ports.room().filter(|&room| room < instances) {
        let message =
            format!("'{}' has {room} ports ({ports}) for {instances} instances", entry.shown);
        fields.error(&entry, message);
    }
    Some(ports)
}
