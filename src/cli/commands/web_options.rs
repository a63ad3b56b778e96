//! What the command line and the environment say about the web interface.

use crate::cli::args::Parsed;
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::config::web::{self, Level, Overrides};

/// Where to listen, separated by commas, or `off`.
const LISTEN: &str = "PMD_WEB";
/// The token.
const TOKEN: &str = "PMD_WEB_TOKEN";

/// The file with the token.
pub const TOKEN_FILE: &str = "web-token-file";

/// The options of a daemon that are about the web interface, as they are passed on to one in the
/// background.
pub const VALUES: [&str; 5] =
    ["web", TOKEN_FILE, "web-allow-origin", "web-allow-host", "web-anonymous"];

/// Reads them. The command line stands above the environment.
///
/// # Errors
///
/// An address that is none, a token that is none.
pub fn overrides(parsed: &Parsed) -> Result<Overrides, Failure> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut overrides = Overrides::default();
    let given: Vec<&str> = parsed.texts("web").collect();
    if parsed.flag("no-web") {
        overrides.listen = Some(Vec::new());
    } else if !given.is_empty() {
        overrides.listen = Some(addresses("--web", given.into_iter())?);
    } else if let Some(listen) = var(LISTEN) {
        overrides.listen = Some(addresses(LISTEN, listen.split(',').map(str::trim))?);
    }
    if let Some(token) = var(TOKEN) {
        if !web::is_token(&token) {
            let text = format!("{TOKEN} is no token: 16 to 512 printable characters");
            return Err(Failure::new(Exit::Invalid, text));
        }
        overrides.token = Some(token);
    }
    if let Some(file) = parsed.text("web-token-file") {
        let path = std::path::absolute(file).unwrap_or_else(|_| file.into());
        overrides.token_file = Some(path);
    }
    overrides.anonymous = parsed.text("web-anonymous").and_then(Level::parse);
    overrides.allowed_origins = parsed.texts("web-allow-origin").map(str::to_owned).collect();
    overrides.allowed_hosts = parsed.texts("web-allow-host").map(str::to_owned).collect();
    Ok(overrides)
}

fn addresses<'a>(
    source: &str,
    texts: impl Iterator<Item = &'a str>,
) -> Result<Vec<std::net::SocketAddr>, Failure> {
    let mut all = Vec::new();
    for text in texts {
        let found = web::addresses(text).ok_or_else(|| {
            Failure::usage(format!("{source}: '{text}' is not an address to listen on"))
                .hint("127.0.0.1:9615, [::1]:9615, localhost:9615 or off")
        })?;
        all.extend(found);
    }
    Ok(all)
}
