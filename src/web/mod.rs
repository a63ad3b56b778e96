//! The dashboard: a page, its style and its script, served as they are written.
//!
//! No framework, no build step, no other host. The page speaks the WebSocket API and has nothing
//! inline, so that a `Content-Security-Policy` without `unsafe-inline` holds. How it works:
//!
//! - Messages and the user change the state, one `render` a moment later makes the page follow, and
//!   only what differs is touched: 200 rows stay quiet.
//! - What the daemon says (names, lines, environments) reaches the page as text nodes only.
//! - It asks for what can be seen: metrics every 2 s, of more than 40 processes only those on the
//!   screen, none while the page is hidden; lines only of the processes whose log is open.
//! - A lost connection is tried again after 0.5 to 10 s, a dead one is noticed by its silence;
//!   charts have a gap for that time, and logs a line that says so.
//! - The token goes in the WebSocket's subprotocol, and stays in the tab or, if wished, in the browser.
//!
//! The three are at most [`BUDGET`] bytes, and 12 KiB once compressed: hosts behind a slow line
//! have people, too. So the script is terse, and what it would say in comments stands here:
//!
//! | function | what it does |
//! |---|---|
//! | `hold` | gives a parent one child for each key, in order; builds only those that are missing |
//! | `render` | calls the four below, at most every 50 ms, and once a second |
//! | `tend` | subscribes to metrics of what can be seen; asks a silent line, leaves a dead one |
//! | `showTop`, `showList`, `showPane` | put the state on the page |
//! | `target` | what the pane is about: the ticked processes, else the opened one |
//! | `hear` | one function for each message of the daemon |
//! | `greet` | after a connection: subscribes, and forgets who was not in the snapshots |
//! | `COLUMNS` | of each column: what is shown, what stands beside it, what it is sorted by |
//! | `sum` | several instances as one line, as bad as the worst of them |
//! | `act` | carries out a command; what may hurt wants a second click; reloads go one by one |
//! | `details` | asks for everything about one process, again when something happened to it |
//! | `follow`, `flush` | subscribe to lines, append what came; the view stays at the end unless moved |
//! | `colours` | a line with its ANSI colours; other control sequences are left out |
//! | `draw` | five minutes of samples, with gaps where none came; gives the value at the top |

/// Bytes of all three together, at most.
pub const BUDGET: usize = 32 * 1024;

/// A file of the dashboard.
#[derive(Debug)]
pub struct Asset {
    /// The path it is served at.
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: &'static [u8],
}

/// Everything the dashboard consists of; the page comes first.
pub static ASSETS: [Asset; 3] = [
    Asset {
        path: "/",
        content_type: "text/html; charset=utf-8",
        body: include_bytes!("index.html"),
    },
    Asset {
        path: "/app.css",
        content_type: "text/css; charset=utf-8",
        body: include_bytes!("app.css"),
    },
    Asset {
        path: "/app.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_bytes!("app.js"),
    },
];

/// The file served at `path`.
#[must_use]
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> &'static str {
        std::str::from_utf8(asset(path).unwrap().body).unwrap()
    }

    #[test]
    fn the_dashboard_is_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.body.len()).sum();
        assert!(bytes <= BUDGET, "{bytes} bytes");
    }

    #[test]
    fn nothing_is_inline_and_nothing_is_elsewhere() {
        let page = text("/");
        for inline in ["<style", "style=", "<script>", " onclick", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
        for asset in &ASSETS {
            let all = std::str::from_utf8(asset.body).unwrap();
            assert!(!all.contains("://"), "{} names a host", asset.path);
        }
    }

    #[test]
    fn nothing_of_the_daemon_becomes_markup() {
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!text("/app.js").contains(way), "{way}");
        }
    }
}
