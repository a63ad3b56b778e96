//! Requests over HTTP: who asks, for what, and the answers that need nobody else.

use crate::config::web::Level;
use crate::daemon::key::ConnId;
use crate::daemon::socket::Peer;
use crate::daemon::{Daemon, Ending};
use crate::json::json;
use crate::proto::http::access::{self, Caller, Verdict};
use crate::proto::http::exposition::Format;
use crate::proto::http::head::{Head, Name};
use crate::proto::http::response::Response;
use crate::proto::http::route::{Miss, Route};
use crate::proto::http::{Request, View, upgrade};
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::session::Answer;
use crate::proto::protocol::{Demand, Hangup, Protocol};
use crate::proto::ws::{Ws, WsLimits};
use crate::sys::process;
use crate::web;

/// WebSockets that have not shown their token yet.
const MAX_UNPROVEN: usize = 8;
/// Connections that are kept for another request.
const MAX_KEPT: usize = 64;

impl Daemon {
    /// Begins to answer one HTTP request.
    pub(in crate::daemon) fn serve(&mut self, client: ConnId, tag: u64, request: &Request) {
        let kept = self.connections.clients.values();
        let kept = kept.filter(|client| matches!(client.protocol, Protocol::Http(_))).count();
        let origin = request.head.get(Name::Origin);
        let origin = origin.filter(|o| access::is_listed_origin(&self.web.settings, o));
        let origin = origin.map(str::to_owned);
        self.with_http(client, |http| {
            http.manner().origin = origin;
            http.manner().keep_alive &= kept <= MAX_KEPT;
        });
        match self.admit(client, request) {
            Ok((Route::WebSocket, level)) => self.upgrade(client, tag, &request.head, level),
            Ok((route, _)) => self.answer_route(client, tag, request, route),
            Err(response) => {
                if let 401 | 403 | 429 = response.status {
                    self.web.counts.reject(&response);
                }
                self.respond(client, tag, &response);
            }
        }
    }

    /// What is asked for, and what the one who asks may do.
    fn admit(&mut self, client: ConnId, request: &Request) -> Result<(Route, Level), Response> {
        let head = &request.head;
        let peer = self.peer(client);
        let settings = &self.web.settings;
        access::check_host(settings, head).map_err(|error| Response::error(&error))?;
        let route = Route::find(head);
        if head.method == "OPTIONS" {
            return Err(self.preflight(head, &route));
        }
        if let Ok(route) = &route
            && route.is_public()
        {
            return Ok((route.clone(), Level::None));
        }
        let is_socket = route == Ok(Route::WebSocket);
        if is_socket {
            upgrade::accept(head)?;
        }
        let now = self.now.mono;
        let shows_token = access::needs_token(settings) && access::token_of(head).is_some();
        if shows_token && self.web.is_barred(&peer, now) {
            let error = ErrorReply::new(Code::RateLimited, "too many wrong tokens");
            return Err(Response::error(&error).with("Retry-After", "1"));
        }
        let own_uid = process::effective_uid();
        let caller = Caller { uid: peer.uid, own_uid, may_wait: is_socket };
        let level = match access::judge(settings, head, &caller) {
            Verdict::Enter(level) => level,
            Verdict::Wait => Level::None,
            Verdict::Refuse(error) => return Err(refusal(&error)),
            Verdict::WrongToken => {
                self.web.count_failure(&peer, now);
                return Err(refusal(&wrong_token()));
            }
        };
        let route = route.map_err(|miss| missed(head, miss))?;
        if route.acts() && level != Level::Full {
            let error = ErrorReply::new(Code::PermissionDenied, "this token may only look");
            return Err(Response::error(&error));
        }
        Ok((route, level))
    }

    fn peer(&mut self, client: ConnId) -> Peer {
        self.connections.get_mut(client).map(|client| client.peer).unwrap_or_default()
    }

    /// A browser asks whether a page of another origin may ask.
    fn preflight(&self, head: &Head, route: &Result<Route, Miss>) -> Response {
        let origin = head.get(Name::Origin).unwrap_or_default();
        if access::is_listed_origin(&self.web.settings, origin) {
            return Response::new(204, "", *b"")
                .with("Access-Control-Allow-Methods", "GET, POST, DELETE")
                .with("Access-Control-Allow-Headers", "Content-Type, Authorization, X-API-Key")
                .with("Access-Control-Max-Age", "600");
        }
        if !access::is_known_origin(&self.web.settings, head) {
            let text = "pages of this origin may not connect";
            return Response::error(&ErrorReply::new(Code::ForbiddenOrigin, text));
        }
        match route {
            Err(Miss::NotFound) => missed(head, Miss::NotFound),
            Ok(Route::Create | Route::List { .. }) => missed(head, Miss::Method("GET, HEAD, POST")),
            Ok(Route::One(_)) => missed(head, Miss::Method("GET, HEAD, DELETE")),
            Err(Miss::Method(allowed)) => missed(head, Miss::Method(allowed)),
            Ok(_) | Err(Miss::Invalid(_)) => missed(head, Miss::Method("GET, HEAD")),
        }
    }

    fn answer_route(&mut self, client: ConnId, tag: u64, request: &Request, route: Route) {
        let response = match &route {
            Route::Index => index(&request.head),
            Route::Asset(path) => match web::asset(path) {
                Some(asset) => page(asset, &request.head),
                None => missed(&request.head, Miss::NotFound),
            },
            Route::Health if self.ending != Ending::No => {
                Response::json(503, &json!({"status": "shutting down"}))
            }
            Route::Health => Response::json(200, &json!({"status": "ok"})),
            Route::Metrics
            | Route::WebSocket
            | Route::List { .. }
            | Route::One(_)
            | Route::Logs { .. }
            | Route::HealthOf(_)
            | Route::System
            | Route::Status => {
                let format = Format::wanted(request.head.get(Name::Accept).unwrap_or_default());
                let view = Demand::View(Box::new(View { route, format }));
                return self.meet(client, vec![(tag, view)], Ok(()));
            }
            Route::Create | Route::Act { .. } => match route.command(request) {
                Ok(ask) => {
                    self.with_http(client, |http| http.set_route(route));
                    return self.ask(client, tag, ask);
                }
                Err((status, error)) => Response::refusal(status, &error),
            },
        };
        self.respond(client, tag, &response);
    }

    /// Shows what changes nothing.
    pub(in crate::daemon) fn show_view(&mut self, client: ConnId, tag: u64, view: &View) {
        let response = if view.route == Route::Metrics {
            let page = self.exposition(view.format).into_bytes();
            Response::new(200, view.format.content_type(), page)
        } else {
            self.view(&view.route).unwrap_or_else(|error| Response::error(&error))
        };
        self.respond(client, tag, &response);
    }

    /// Answers a request.
    pub(in crate::daemon) fn respond(&mut self, client: ConnId, tag: u64, response: &Response) {
        *self.web.counts.responses.get_or_default(response.status) += 1;
        let went = self.converse(client, |protocol, cx| {
            if let Protocol::Http(http) = protocol {
                http.respond(tag, response, cx)
            } else {
                Ok(())
            }
        });
        if let Some(Err(hangup)) = went {
            self.end_connection(client, hangup);
        }
    }

    fn with_http(&mut self, client: ConnId, act: impl FnOnce(&mut crate::proto::http::Http)) {
        if let Some(found) = self.connections.get_mut(client)
            && let Protocol::Http(http) = &mut found.protocol
        {
            act(http);
        }
    }

    /// Turns a connection into a WebSocket.
    fn upgrade(&mut self, client: ConnId, tag: u64, head: &Head, level: Level) {
        let sockets =
            || self.connections.clients.values().filter_map(|client| client.protocol.as_ws());
        let is_full = sockets().count() >= self.web.settings.max_clients;
        let unproven = sockets().filter(|ws| ws.is_unproven()).count();
        let refused = if self.ending != Ending::No {
            Some(ErrorReply::new(Code::ShuttingDown, "the daemon is going down"))
        } else if is_full || (level == Level::None && unproven >= MAX_UNPROVEN) {
            Some(ErrorReply::new(Code::RateLimited, "too many clients"))
        } else {
            None
        };
        let response = match (refused, upgrade::accept(head)) {
            (Some(error), _) => {
                let response = Response::refusal(503, &error).with("Retry-After", "5");
                self.web.counts.reject(&response);
                response
            }
            (None, Err(response)) => response,
            (None, Ok(response)) => {
                let limits = WsLimits {
                    message: self.web.settings.max_message,
                    queue: self.web.settings.client_buffer,
                };
                let went = self.converse(client, |protocol, cx| {
                    let Protocol::Http(http) = protocol else { return Ok(()) };
                    let rest = http.turn(&response, cx)?;
                    *protocol = Protocol::Ws(Box::new(Ws::greet(level, limits, rest, cx)));
                    Ok::<(), Hangup>(())
                });
                if let Some(Err(hangup)) = went {
                    self.end_connection(client, hangup);
                }
                return;
            }
        };
        self.respond(client, tag, &response);
    }

    /// A client of the WebSocket shows its token in a message.
    pub(in crate::daemon) fn authenticate(&mut self, client: ConnId, tag: u64, token: &str) {
        let peer = self.peer(client);
        let now = self.now.mono;
        let proof = if !access::needs_token(&self.web.settings) {
            // It is in already.
            Ok(self.connections.session(client).map_or(Level::None, |session| session.level()))
        } else if self.web.is_barred(&peer, now) {
            Err(ErrorReply::new(Code::RateLimited, "too many wrong tokens"))
        } else {
            access::level_of(&self.web.settings, token).ok_or_else(|| {
                self.web.count_failure(&peer, now);
                wrong_token()
            })
        };
        let went = self.converse(client, |protocol, cx| {
            if let Protocol::Ws(ws) = protocol { ws.prove(tag, proof, cx) } else { Ok(()) }
        });
        if let Some(Err(hangup)) = went {
            self.end_connection(client, hangup);
        }
    }

    /// Passes on the answer of the layer of messages to an HTTP request.
    pub(in crate::daemon) fn respond_with(&mut self, client: ConnId, tag: u64, answer: &Answer) {
        let mut route = None;
        self.with_http(client, |http| route = http.take_route());
        let response = match answer {
            Answer::Error(error) => Response::error(error),
            Answer::Data(_, data) => self.result_response(route.as_ref(), data),
        };
        self.respond(client, tag, &response);
    }
}

fn wrong_token() -> ErrorReply {
    ErrorReply::new(Code::Unauthorized, "wrong token")
}

fn refusal(error: &ErrorReply) -> Response {
    let response = Response::error(error);
    if error.code == Code::Unauthorized {
        response.with("WWW-Authenticate", "Bearer")
    } else {
        response
    }
}

fn missed(head: &Head, miss: Miss) -> Response {
    match miss {
        Miss::NotFound => {
            let text = format!("there is nothing at '{}'", head.path);
            let error = ErrorReply::new(Code::UnknownType, text).with("path", head.path.as_str());
            Response::refusal(404, &error)
        }
        Miss::Method(allowed) => {
            let text = format!("'{}' is not for '{}'", head.method, head.path);
            let error = ErrorReply::new(Code::UnknownAction, text);
            Response::refusal(405, &error).with("Allow", allowed)
        }
        Miss::Invalid(error) => Response::error(&error),
    }
}

/// The dashboard for those who can show it, the list of paths for others.
fn index(head: &Head) -> Response {
    let wants_page = head.get(Name::Accept).is_some_and(|accept| accept.contains("text/html"));
    match web::asset("/") {
        Some(asset) if wants_page => page(asset, head),
        Some(_) | None => Response::json(
            200,
            &json!({
                "name": "pmd", "version": env!("CARGO_PKG_VERSION"),
                "description": env!("CARGO_PKG_DESCRIPTION"), "status": "running",
                "endpoints": {
                    "processes": "/api/processes", "system": "/api/system",
                    "status": "/api/status", "websocket": "/ws", "metrics": "/metrics",
                },
            }),
        ),
    }
}

/// A file of the dashboard, or the word that the browser's copy is the same.
fn page(asset: &'static web::Asset, head: &Head) -> Response {
    // Told from every other content by version and checksum.
    let sum = asset.body.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let tag = format!("\"{}-{sum:016x}\"", env!("CARGO_PKG_VERSION"));
    let is_same = head.lists(Name::IfNoneMatch, &tag) || head.lists(Name::IfNoneMatch, "*");
    let mut response = match is_same {
        true => Response::new(304, asset.content_type, *b""),
        false => Response::new(200, asset.content_type, asset.body),
    };
    response.is_page = true;
    response.with("ETag", tag)
}
