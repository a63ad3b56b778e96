//! Requests to an HTTP server, and its answers.
//!
//! One request on one connection, which is closed behind the answer. The body is as long as
//! `Content-Length` says, in chunks, or all there is until the end. Source: RFC 9112.

/// A longer answer is refused, in bytes.
pub const MAX_ANSWER: usize = 256 * 1024;
/// Its head may be so long, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// A whole answer.
#[derive(Debug, Eq, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// What is known of the head of an answer.
#[derive(Debug, Eq, PartialEq)]
pub struct Head {
    pub status: u16,
    /// Bytes of the head.
    pub length: usize,
    /// What the body is told to have; `None`: it ends with the connection.
    body: Option<usize>,
    chunked: bool,
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: Option<String>,
}

/// The head of a request: its first line and its headers. Values keep their bytes, but for those
/// that would end them.
#[must_use]
pub fn request(first: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = format!("{first} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend(value.bytes().filter(|byte| !byte.is_ascii_control()));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

impl Head {
    /// The head at the begin of `bytes`; `None`: it is not whole yet.
    ///
    /// # Errors
    ///
    /// What is no HTTP, or too long.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
            Ok(_) => return Err("the head of the answer has no end"),
            Err(_) => return Err("the answer is no HTTP"),
        };
        let value = |wanted: &str| {
            let found = response.headers.iter().find(|it| it.name.eq_ignore_ascii_case(wanted))?;
            std::str::from_utf8(found.value).ok().map(str::trim)
        };
        let chunked = value("transfer-encoding").is_some_and(|it| it.ends_with("chunked"));
        Ok(Some(Self {
            status: response.code.unwrap_or_default(),
            length,
            body: value("content-length").and_then(|digits| digits.parse().ok()),
            chunked,
            accept: value("sec-websocket-accept").map(str::to_owned),
        }))
    }
}

/// The answer that `bytes` are; `None`: it is not whole yet. `ended`: no more will come.
///
/// # Errors
///
/// What is no answer, too long, or cut short.
pub fn whole(mut bytes: &[u8], ended: bool) -> Result<Option<Answer>, &'static str> {
    if bytes.len() > MAX_ANSWER {
        return Err("the answer is too long");
    }
    let cut = if ended { Err("the answer is cut short") } else { Ok(None) };
    let head = loop {
        let Some(head) = Head::parse(bytes)? else { return cut };
        let rest = bytes.get(head.length..).unwrap_or_default();
        match head.status {
            // Interim answers; 101 would be the last of its kind.
            100 | 102..=199 => bytes = rest,
            _ => {
                bytes = rest;
                break head;
            }
        }
    };
    let body = match (head.chunked, head.body) {
        (true, _) => match chunks(bytes)? {
            Some(body) => body,
            None => return cut,
        },
        (false, Some(length)) if length > MAX_ANSWER => return Err("the answer is too long"),
        (false, Some(length)) => match bytes.get(..length) {
            Some(body) => body.to_vec(),
            None => return cut,
        },
        (false, None) if ended => bytes.to_vec(),
        (false, None) => return Ok(None),
    };
    Ok(Some(Answer { status: head.status, body }))
}

/// The data of all chunks, when the last one is there.
fn chunks(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let mut body = Vec::new();
    loop {
        let (begin, size) = match httparse::parse_chunk_size(bytes) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("the answer has a broken chunk"),
        };
        if size == 0 {
            return Ok(Some(body));
        }
        let size = usize::try_from(size).ok().filter(|&size| size <= MAX_ANSWER);
        let size = size.ok_or("the answer is too long")?;
        let Some(data) = bytes.get(begin..begin + size) else { return Ok(None) };
        body.extend_from_slice(data);
        match bytes.get(begin + size..begin + size + 2) {
            None => return Ok(None),
            Some(b"\r\n") => bytes = bytes.get(begin + size + 2..).unwrap_or_default(),
            Some(_) => return Err("the answer has a broken chunk"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, ended: bool) -> Result<Option<Answer>, &'static str> {
        whole(text.as_bytes(), ended)
    }

    #[test]
    fn a_body_is_as_long_as_its_head_says() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 \r\ncontent-length:4\r\n\r\nbody",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nbod\r\n1\r\ny\r\n0\r\n\r\n",
        ] {
            let found = answer(text, false).unwrap().unwrap();
            assert_eq!((found.status, found.body.as_slice()), (200, &b"body"[..]), "{text}");
            for cut in 0..text.len() - 4 {
                assert_eq!(answer(&text[..cut], false), Ok(None), "{text} cut at {cut}");
                assert!(answer(&text[..cut], true).is_err(), "{text} cut at {cut}");
            }
        }
        let endless = "HTTP/1.0 500 x\r\n\r\nall of it";
        assert_eq!(answer(endless, false), Ok(None));
        assert_eq!(answer(endless, true).unwrap().unwrap().body, b"all of it");
    }

    #[test]
    fn what_is_too_long_or_no_answer_ends_it() {
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_ANSWER + 1);
        assert!(answer(&long, false).is_err());
        let long = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n";
        assert!(answer(long, false).is_err());
        assert!(answer("SSH-2.0-x\r\n", false).is_err());
        assert!(whole(&vec![b'a'; MAX_ANSWER + 1], false).is_err());
        let head = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD));
        assert!(answer(&head, false).is_err());
    }

    #[test]
    fn altered_bytes_never_panic() {
        let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
        for at in 0..text.len() {
            for byte in 0..=255 {
                let mut altered = text.to_vec();
                altered[at] = byte;
                let _ = whole(&altered, at % 2 == 0);
            }
        }
    }

    #[test]
    fn a_header_cannot_be_ended_from_within() {
        let bytes = request("GET /", &[("X-Name", "caf\u{e9}\r\nEvil: 1")]);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, "GET / HTTP/1.1\r\nX-Name: caf\u{e9}Evil: 1\r\n\r\n");
    }
}
