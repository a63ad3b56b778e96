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
//! have people, too. That is why the script is terse and has few comments; this page has them.

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
