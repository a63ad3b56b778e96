//! The head of a request: what httparse finds in it, checked and cut down to what pmd looks at.

use crate::proto::http::Problem;

/// Bytes of a head.
pub const MAX_HEAD: usize = 8 * 1024;
/// Header lines of a head.
pub const MAX_HEADERS: usize = 64;
/// Bytes of a body.
pub const MAX_BODY: usize = 64 * 1024;

/// A header that pmd looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Name {
    Host,
    Origin,
    Authorization,
    ApiKey,
    ContentType,
    Accept,
    IfNoneMatch,
    Upgrade,
    WsKey,
    WsVersion,
    WsProtocol,
    RequestMethod,
    Connection,
    ContentLength,
    TransferEncoding,
    Expect,
}

const NAMES: [(&str, Name); 16] = [
    ("host", Name::Host),
    ("origin", Name::Origin),
    ("authorization", Name::Authorization),
    ("x-api-key", Name::ApiKey),
    ("content-type", Name::ContentType),
    ("accept", Name::Accept),
    ("if-none-match", Name::IfNoneMatch),
    ("upgrade", Name::Upgrade),
    ("sec-websocket-key", Name::WsKey),
    ("sec-websocket-version", Name::WsVersion),
    ("sec-websocket-protocol", Name::WsProtocol),
    ("access-control-request-method", Name::RequestMethod),
    ("connection", Name::Connection),
    ("content-length", Name::ContentLength),
    ("transfer-encoding", Name::TransferEncoding),
    ("expect", Name::Expect),
];

impl Name {
    /// Whether it is a list, which may come in several lines.
    fn is_list(self) -> bool {
        matches!(
            self,
            Self::Accept
                | Self::IfNoneMatch
                | Self::Upgrade
                | Self::WsProtocol
                | Self::Connection
                | Self::TransferEncoding
        )
    }
}

/// How long the body of a request is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Length {
    Known(usize),
    Chunked,
}

/// The head of one request.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: String,
    /// Without the query, not decoded.
    pub path: String,
    pub query: String,
    pub length: Length,
    /// Whether the peer goes on with this connection.
    pub keep_alive: bool,
    /// Whether it waits for a word before it sends the body.
    pub expects_continue: bool,
    values: Vec<(Name, String)>,
}

impl Head {
    /// Reads the head at the start of `bytes`: it and its length. `None`: it is not whole yet.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a status. The connection is of no use any more.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Problem> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let end = match request.parse(bytes) {
            Ok(httparse::Status::Complete(end)) if end <= MAX_HEAD => end,
            Ok(httparse::Status::Complete(_)) => return Err(TOO_LARGE),
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(TOO_LARGE);
            }
            Err(httparse::Error::Version) => return Err(Problem(505, "this is HTTP/1.1")),
            Err(_) => return Err(Problem(400, "not an HTTP request")),
        };
        let mut values = Vec::new();
        for header in request.headers.iter() {
            let known = NAMES.iter().find(|(name, _)| header.name.eq_ignore_ascii_case(name));
            let Some(&(_, name)) = known else { continue };
            let value = std::str::from_utf8(header.value)
                .map_err(|_| Problem(400, "a header that is not UTF-8"))?;
            enter(&mut values, name, value.trim())?;
        }
        let mut head = Self {
            method: request.method.unwrap_or_default().to_owned(),
            path: String::new(),
            query: String::new(),
            length: Length::Known(0),
            keep_alive: false,
            expects_continue: false,
            values,
        };
        let is_new = request.version == Some(1);
        head.keep_alive = is_new && !head.lists(Name::Connection, "close");
        head.expects_continue = is_new
            && head.get(Name::Expect).is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
        head.length = head.body_length(is_new)?;
        head.set_target(request.path.unwrap_or_default())?;
        if is_new && head.get(Name::Host).is_none() {
            return Err(Problem(400, "the Host header is missing"));
        }
        Ok(Some((head, end)))
    }

    /// The value of a header; lists in several lines are one.
    #[must_use]
    pub fn get(&self, name: Name) -> Option<&str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a header, as a list, has `word`. Case does not matter.
    #[must_use]
    pub fn lists(&self, name: Name, word: &str) -> bool {
        let items = self.get(name).into_iter().flat_map(|value| value.split(','));
        items.map(str::trim).any(|item| item.eq_ignore_ascii_case(word))
    }

    fn body_length(&self, is_new: bool) -> Result<Length, Problem> {
        match (self.get(Name::TransferEncoding), self.get(Name::ContentLength)) {
            // Two lengths: whoever stands before us may believe the other one.
            (Some(_), Some(_)) => Err(Problem(400, "two lengths of one body")),
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") && is_new => {
                Ok(Length::Chunked)
            }
            (Some(_), None) => Err(Problem(501, "an unknown transfer coding")),
            (None, Some(digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                match digits.parse() {
                    Ok(length) if length <= MAX_BODY => Ok(Length::Known(length)),
                    Err(_) if digits.is_empty() => Err(Problem(400, "no length of the body")),
                    Ok(_) | Err(_) => Err(BODY_TOO_LARGE),
                }
            }
            (None, Some(_)) => Err(Problem(400, "not a length of a body")),
            (None, None) => Ok(Length::Known(0)),
        }
    }

    /// `/path?query`, or `http://host/path?query` as a proxy is asked, whose host counts.
    fn set_target(&mut self, target: &str) -> Result<(), Problem> {
        let mut rest = target;
        if let Some(absolute) = target.strip_prefix("http://") {
            let end = absolute.find(['/', '?']).unwrap_or(absolute.len());
            let (host, path) = absolute.split_at(end);
            self.values.retain(|(name, _)| *name != Name::Host);
            self.values.push((Name::Host, host.to_owned()));
            rest = path;
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = if path.is_empty() { "/" } else { path };
        if !path.starts_with('/') && target != "*" {
            return Err(Problem(400, "not a path"));
        }
        (self.path, self.query) = (path.to_owned(), query.to_owned());
        Ok(())
    }
}

const TOO_LARGE: Problem = Problem(431, "a request may have 64 header lines and 8 KiB of head");
/// A body of more than [`MAX_BODY`].
pub const BODY_TOO_LARGE: Problem = Problem(413, "a body may have 64 KiB");

fn enter(values: &mut Vec<(Name, String)>, name: Name, value: &str) -> Result<(), Problem> {
    match values.iter_mut().find(|(known, _)| *known == name) {
        None => values.push((name, value.to_owned())),
        Some((_, before)) if name.is_list() => {
            before.push_str(", ");
            before.push_str(value);
        }
        Some((_, before)) if before == value && name == Name::ContentLength => {}
        Some(_) => return Err(Problem(400, "a header that may stand once stands twice")),
    }
    Ok(())
}

/// Decodes `%41`; in a query `+` is a blank. `None` for what is no UTF-8 or cut short.
#[must_use]
pub fn decode(text: &str, in_query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' if in_query => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}
