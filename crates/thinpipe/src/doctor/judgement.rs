//! From what was seen to what it means behind a gateway. Pure: observations in, findings out.

use std::time::Duration;

use thinpipe_proto::revision::Binding;

use super::observation::{
    HttpSse, Observations, Resumed, Second, SessionId, Sessions, Stdio, Stream, Transport,
    Unusable, Why,
};

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Stable name of the check, for programs.
    pub(crate) check: &'static str,
    /// How bad it is.
    pub(crate) level: Level,
    /// What was found, for people.
    pub(crate) text: String,
    /// What to do about it.
    pub(crate) mend: Option<&'static str>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// As it should be.
    Fine,
    /// Good to know.
    Note,
    /// Something will not work as well as it could.
    Warning,
    /// The server cannot be used.
    Failure,
}

/// A child that takes longer than this for its first answer makes every new client wait.
const SLOW_START: Duration = Duration::from_secs(2);
/// Silence on a stream for which every proxy on the way should be good.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Whether a client gets something out of the server, behind the gateway or not.
pub(crate) fn is_usable(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.level < Level::Failure)
}

/// What the observations mean, in the order of the checks.
pub(crate) fn judge(seen: &Observations) -> Vec<Finding> {
    let mut findings = Findings::default();
    match &seen.identity {
        Ok(identity) => {
            if identity.bindings == [Binding::HttpSse] {
                findings.http_sse_only(seen.successor.as_deref());
            }
        }
        Err(unusable) => {
            findings.unusable(unusable);
            for line in &seen.stderr {
                findings.add("stderr", Level::Note, line, None);
            }
        }
    }
    findings.lists(seen);
    match &seen.transport {
        Transport::Unknown => {}
        Transport::Streamable {
            sessions,
            stateless_get,
        } => {
            if let Some(sessions) = sessions {
                findings.sessions(sessions);
            }
            match stateless_get {
                None | Some(405) => {}
                Some(_) if sessions.is_some() => {}
                Some(status) => findings.note(
                    "stateless_get",
                    format!("a GET of its stateless endpoint gets {status} where 405 is expected"),
                    "answer 405 with `Allow: POST`, so that older clients know what they found",
                ),
            }
        }
        Transport::HttpSse(sse) => findings.http_sse(sse),
        Transport::Stdio(stdio) => findings.stdio(stdio),
    }
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn fine(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Level::Fine, text, None);
    }

    fn note(&mut self, check: &'static str, text: impl Into<String>, mend: &'static str) {
        self.add(check, Level::Note, text, Some(mend));
    }

    fn warning(&mut self, check: &'static str, text: impl Into<String>, mend: &'static str) {
        self.add(check, Level::Warning, text, Some(mend));
    }

    fn add(
        &mut self,
        check: &'static str,
        level: Level,
        text: impl Into<String>,
        mend: Option<&'static str>,
    ) {
        self.0.push(Finding {
            check,
            level,
            text: text.into(),
            mend,
        });
    }

    fn http_sse_only(&mut self, successor: Option<&str>) {
        match successor {
            Some(successor) => self.note(
                "binding",
                format!("this is HTTP+SSE, deprecated since 2025-03-26; it names its successor: {successor}"),
                "use that address, for clients as well as behind the gateway",
            ),
            None => self.note(
                "binding",
                "it speaks HTTP+SSE only, which is deprecated since 2025-03-26",
                "look for its Streamable HTTP endpoint, often /mcp; the gateway makes one of it for clients",
            ),
        }
    }

    fn unusable(&mut self, unusable: &Unusable) {
        let mend = match unusable.why {
            Why::Unavailable => "is it started, and is this its address?",
            Why::Unauthorized => {
                "give its credentials: `--header 'Authorization: Bearer ...'`, and `headers` of the upstream in the gateway's file"
            }
            Why::HeadersMissing => {
                "look for a proxy before it that takes `Mcp-*` headers out; the gateway's own always go with a request"
            }
            Why::ForeignEndpoint => {
                "make it name its message endpoint on the origin of its stream: clients refuse others, since messages would go where nobody meant them to"
            }
            Why::Version => "it is newer than this program; look for a newer one",
            Why::Program => "run the command by itself and see what it writes to standard error",
            Why::Gone => "use its successor, for clients as well as behind the gateway",
            Why::NotMcp => "is this the URL of its MCP endpoint, mostly /mcp or /sse?",
        };
        let text = unusable.text.clone();
        self.add("speaks", Level::Failure, text, Some(mend));
    }

    fn lists(&mut self, seen: &Observations) {
        for (method, list) in &seen.lists {
            match list {
                Ok(list) => {
                    let least = if list.goes_on { "at least " } else { "" };
                    self.fine("lists", format!("{method}: {least}{}", list.names.len()));
                }
                Err(error) => self.warning(
                    "lists",
                    format!("{method} failed, though the server says it has them: {error}"),
                    "mend the method, or take the capability out of the answer to `initialize`",
                ),
            }
        }
    }

    fn sessions(&mut self, seen: &Sessions) {
        if !seen.ids_kept {
            self.warning(
                "request_ids",
                "a response did not have the id of its request: numbers stay numbers, text stays text",
                "send ids back as they came; clients wait for the exact one",
            );
        }
        self.session_id(seen);
        self.second_session(&seen.second);
        self.stream(&seen.stream);
        self.resuming(seen);
        match seen.json_only {
            Some(406) => self.fine(
                "accept",
                "wants `Accept` to name JSON and event streams, as the specification says; the gateway always does",
            ),
            Some(status @ 400..) => self.note(
                "accept",
                format!("a client that accepts JSON only gets {status}"),
                "answer 406 if `Accept` is the reason, so that the client can tell",
            ),
            _ => {}
        }
        match seen.foreign_origin {
            Some(403) => self.fine("origin", "refuses web pages of other origins"),
            Some(status @ 200..300) => self.note(
                "origin",
                format!(
                    "answers a web page of another origin ({status}): DNS rebinding reaches it"
                ),
                "check `Origin` in the server; the gateway checks it for what goes through it",
            ),
            _ => {}
        }
    }

    fn session_id(&mut self, seen: &Sessions) {
        match seen.id {
            SessionId::None => {
                self.note(
                    "session",
                    "gives no session id: nothing of a client is kept, and it cannot ask clients anything outside of a call",
                    "nothing, if it is meant to be stateless",
                );
                return;
            }
            SessionId::Invalid => self.warning(
                "session",
                "its session id is not visible ASCII of a bounded length",
                "make ids of letters, digits and dashes, such as UUIDs",
            ),
            SessionId::Valid => self.fine("session", "gives every client a session id"),
        }
        match seen.unknown {
            Some(404) => self.fine("unknown_session", "answers 404 to a session it does not know"),
            Some(status @ 200..300) => self.warning(
                "unknown_session",
                format!("takes a session id it never gave ({status})"),
                "answer 404: whoever guesses an id is served, and a lost session is not noticed",
            ),
            Some(status) => self.warning(
                "unknown_session",
                format!("answers {status} to a session it does not know; 404 is what tells clients, and the gateway, to begin anew"),
                "answer 404; until then a restart of the server breaks clients until they restart too",
            ),
            None => {}
        }
        match seen.missing {
            Some(400) | None => {}
            Some(status @ 200..300) => self.note(
                "missing_session",
                format!("answers requests without a session id ({status})"),
                "answer 400, if a request needs its session",
            ),
            Some(status) => self.note(
                "missing_session",
                format!("answers {status} to a request without a session id"),
                "answer 400",
            ),
        }
        match (seen.deleted, seen.after_delete) {
            (Some(405), _) => self.note(
                "delete",
                "does not end sessions when asked to (405): each stays until the server's own time-out",
                "serve DELETE, or keep the time-out short",
            ),
            (Some(200..300), Some(404)) => self.fine("delete", "ends a session when asked to"),
            (Some(200..300), Some(status)) => self.warning(
                "delete",
                format!("says that it has ended a session, and then answers {status} in it"),
                "answer 404 from then on",
            ),
            (Some(status), _) => self.note(
                "delete",
                format!("answers {status} to the end of a session"),
                "answer 200 or 204, or 405 if clients may not end sessions",
            ),
            (None, _) => {}
        }
    }

    fn second_session(&mut self, second: &Second) {
        match second {
            Second::NotTried => {}
            Second::Refused(status) => self.warning(
                "second_session",
                format!("takes one session at a time: a second `initialize` gets {status}"),
                "make a server for each session (in the SDKs: one transport for each), else only one client can use it",
            ),
            Second::Same => self.warning(
                "second_session",
                "gives two clients the same session id",
                "make ids random: each client would see what is another's",
            ),
            Second::Own { differing } if differing.is_empty() => {
                self.fine("second_session", "another session sees the same lists");
            }
            Second::Own { differing } => self.note(
                "second_session",
                format!("lists differ between two sessions: {}", differing.join(", ")),
                "do not share it between clients (`sessions = \"shared\"`, pinned tools)",
            ),
        }
    }

    fn stream(&mut self, stream: &Stream) {
        match stream {
            Stream::NotTried => {}
            Stream::Refused(405) => self.note(
                "stream",
                "has no standalone stream (405): it cannot tell clients of changes, nor ask outside of calls",
                "nothing, if it never does",
            ),
            Stream::Refused(status) => self.warning(
                "stream",
                format!("answers {status} to the GET of its standalone stream"),
                "answer with an event stream, or 405 if there is none",
            ),
            Stream::NotEvents => self.warning(
                "stream",
                "answers the GET of its standalone stream with something that is no event stream",
                "answer 405 if there is none",
            ),
            Stream::Open { ended: true, .. } => self.warning(
                "stream",
                "ends its standalone stream at once: clients come back for it again and again",
                "keep it open, or answer 405",
            ),
            Stream::Open { alive: true, .. } => self.fine("stream", "its standalone stream shows signs of life"),
            Stream::Open { watched, .. } if *watched < KEEP_ALIVE => self.fine(
                "stream",
                format!("its standalone stream stands; {}s of silence say nothing of keep-alives (`--watch 20`)", watched.as_secs()),
            ),
            Stream::Open { watched, .. } => self.warning(
                "stream",
                format!("is silent on its standalone stream for {}s: proxies cut silent connections", watched.as_secs()),
                "write a comment line every 15 s; toward its clients the gateway does so by itself, and `timeouts.stream_idle` says how long it waits",
            ),
        }
    }

    fn resuming(&mut self, seen: &Sessions) {
        let mut ids: Vec<_> = seen.event_ids.iter().collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            self.warning(
                "event_ids",
                "gives one event id twice in a session",
                "make ids unique over all streams of a session: a client that resumes gets the wrong events",
            );
        }
        match (seen.resumed, seen.event_ids.is_empty()) {
            (_, true) if seen.streams_answers => self.note(
                "resume",
                "its events have no ids: an answer whose connection breaks is lost",
                "keep events (in the SDKs: an event store), or have short calls only, or set \
                 `upstreams.resume = \"log\"` (of the gateway)",
            ),
            (_, true) => self.note(
                "resume",
                "its answers are no streams: there is nothing to resume",
                "nothing, if calls are short",
            ),
            (Some(Resumed::Replayed), _) => {
                let primed = if seen.primes {
                    ", from the first byte on"
                } else {
                    ""
                };
                self.fine(
                    "resume",
                    format!(
                        "resumes a broken stream{primed}; not tried while a call runs: with `upstreams.resume = \"log\"` the \
                         gateway does that itself"
                    ),
                );
            }
            (Some(Resumed::Silent), _) => self.warning(
                "resume",
                "gives events ids, and does not send again what followed one",
                "keep what was sent for some minutes, or leave ids out",
            ),
            (Some(Resumed::Refused(status)), _) => self.warning(
                "resume",
                format!("gives events ids, and answers {status} when asked to go on after one"),
                "serve GET with `Last-Event-ID`, or leave ids out",
            ),
            (None, false) => {}
        }
    }

    fn http_sse(&mut self, seen: &HttpSse) {
        match seen.two_at_a_time {
            true => self.fine("second_session", "serves two clients at a time"),
            false => self.warning(
                "second_session",
                "does not serve two clients at a time: one loses its answers to the other",
                "make a server and a transport for each connection",
            ),
        }
    }

    fn stdio(&mut self, seen: &Stdio) {
        if seen.died_on_discover {
            self.note(
                "discover",
                "ends when it is asked `server/discover`; it was started again",
                "answer requests before `initialize` with an error; until then each client's start costs two",
            );
        }
        match seen.first_answer {
            Some(time) if time > SLOW_START => self.warning(
                "start",
                format!("takes {:.1} s to its first answer", time.as_secs_f64()),
                "install it instead of having it fetched at each start (`npm install -g`, `uv tool install`), or declare `sessions = \"shared\"`",
            ),
            Some(time) => self.fine("start", format!("first answer after {} ms", time.as_millis())),
            None => {}
        }
        match seen.noise {
            0 => self.fine("stdout", "writes nothing but messages to standard output"),
            lines => self.warning(
                "stdout",
                format!("writes lines to standard output that are no messages ({lines})"),
                "log to standard error: many clients end over it",
            ),
        }
        match seen.left_after {
            Some(_) => self.fine("shutdown", "ends by itself when its input ends"),
            None => self.note(
                "shutdown",
                "does not end when its input ends, and has to be told by signals",
                "end when standard input does: whoever started it may be gone",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
