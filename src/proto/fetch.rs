//! One HTTP request and the status of its answer: all that a health check needs of HTTP.
//!
//! `GET` in HTTP/1.1 with `Connection: close`. Of the answer only the status line is understood, that
//! of interim answers (1xx) skipped with their headers; what follows the final one is not read.
//! Source: RFC 9112, sections 2 to 4.

/// An answer whose final status line does not end within so many bytes is no answer.
pub const MAX_HEAD: usize = 8 * 1024;

/// The request for `target` (empty: `/`) of the host in `authority`.
#[must_use]
pub fn request(authority: &str, target: &str) -> Vec<u8> {
    let slash = if target.starts_with('/') { "" } else { "/" };
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "GET {slash}{target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: pmd/{version}\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

/// Reads an answer as it comes, in whatever pieces.
#[derive(Debug, Default)]
pub struct StatusReader {
    /// The line that has begun.
    line: Vec<u8>,
    /// Bytes so far.
    seen: usize,
    /// The lines are headers of an interim answer.
    interim: bool,
}

impl StatusReader {
    /// Takes more bytes; gives the status when it is known.
    ///
    /// # Errors
    ///
    /// What is no HTTP.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<u16>, &'static str> {
        for &byte in bytes {
            self.seen += 1;
            if self.seen > MAX_HEAD {
                return Err("the answer has no end");
            }
            if byte != b'\n' {
                self.line.push(byte);
                // Long before the limit it can be told that this is not HTTP.
                let begin = self.line.get(..self.line.len().min(5)).unwrap_or_default();
                if !self.interim && !b"HTTP/".starts_with(begin) {
                    return Err("the answer is no HTTP");
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if self.interim {
                self.interim = !line.is_empty();
                continue;
            }
            match status(line).ok_or("the answer is no HTTP")? {
                // 101 would be the last one of its kind.
                100 | 102..=199 => self.interim = true,
                status => return Ok(Some(status)),
            }
        }
        Ok(None)
    }
}

/// `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.get(..12)?)
        .ok()
        .filter(|_| matches!(line.get(12), None | Some(b' ')))?;
    let (version, digits) = line.split_once(' ')?;
    let is_version =
        matches!(version.as_bytes(), [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9']);
    let all = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|status| is_version && all && (100..=599).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<u16>, &'static str> {
        StatusReader::default().read(bytes)
    }

    #[test]
    fn a_request_names_its_host_and_closes() {
        let text = String::from_utf8(request("[::1]:80", "?x")).unwrap();
        assert!(text.starts_with("GET /?x HTTP/1.1\r\nHost: [::1]:80\r\n"), "{text}");
        assert!(text.ends_with("Connection: close\r\n\r\n"), "{text}");
        assert!(request("h", "").starts_with(b"GET / HTTP/1.1\r\n"));
    }

    #[test]
    fn the_status_is_known_however_the_answer_is_cut() {
        for (text, status) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
            ("HTTP/1.0 503\nx", 503),
            (
                "HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 \r\n",
                204,
            ),
            ("HTTP/1.1 101 Switching\r\n", 101),
        ] {
            for cut in 0..text.len() {
                let mut reader = StatusReader::default();
                let (first, second) = text.as_bytes().split_at(cut);
                let found = match reader.read(first) {
                    Ok(None) => reader.read(second),
                    found => found,
                };
                assert_eq!(found, Ok(Some(status)), "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_http_is_told_at_once() {
        for text in [
            "SSH-2.0-x",
            "\x16\x03\x01",
            "HTTP/2 200 OK\r\n",
            "HTTP/1.1 20 OK\r\n",
            "HTTP/1.1 2000\r\n",
            "HTTP/1.1 999 x\r\n",
            "HTTP/1.1  200\r\n",
            "\r\n",
            "HTTP/1.1\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(read(b"HTTP/1.1 200 OK"), Ok(None));
        let endless = [b"HTTP/1.1 ".as_slice(), &vec![b'2'; MAX_HEAD]].concat();
        assert_eq!(read(&endless), Err("the answer has no end"));
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD / 20);
        assert_eq!(read(&interim), Err("the answer has no end"));
    }

    #[test]
    fn altered_bytes_never_panic() {
        let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        for at in 0..text.len() {
            for byte in 0..=255 {
                let mut altered = text.to_vec();
                altered[at] = byte;
                let _ = read(&altered);
            }
        }
    }
}
