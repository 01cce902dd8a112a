//! Who may use what.

mod lists;

use serde::{Deserialize, Serialize};
use thinpipe_proto::rpc::{Kind, Message, code};
use thinpipe_proto::session::Principal;

use super::config::Wrong;
use super::glob::{self, Glob};
use super::json::Value;
use super::subject::{member, subject};
use super::{Action, Direction, Interceptor, Interest, MessageContext, Methods, Rejection};

/// Allows or denies methods, tools, prompts and resources. What is denied is also left out of lists.
///
/// In patterns, `*` stands for any run of characters. A denied method is answered with `-32601`, a
/// denied tool, prompt or resource with `-32602`, as if it were unknown. Several of these
/// interceptors in a chain must all allow a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Names of those it is about (patterns). Default: everyone, also who does not authenticate.
    pub principals: Vec<String>,
    /// Names of those it is not about (patterns). Default: nobody.
    pub except_principals: Vec<String>,
    /// Methods of requests and notifications from the client. What every session needs
    /// (`initialize`, `notifications/initialized`, `server/discover`, `ping`,
    /// `notifications/cancelled`, `notifications/progress`) passes an `allow` that does not name it.
    pub methods: NameList,
    /// Methods of requests and notifications from the server; `ping`, `notifications/cancelled`,
    /// `notifications/progress` and `notifications/subscriptions/acknowledged` pass an `allow` that
    /// does not name them.
    pub server_methods: NameList,
    /// Tools, by name.
    pub tools: NameList,
    /// Prompts, by name.
    pub prompts: NameList,
    /// Resources, by URI; templates, by URI template. Once there is such a list, URIs with a `..`
    /// segment are denied, since what they mean is up to the server.
    pub resources: NameList,
}

/// What is allowed. Something passes if no `deny` pattern fits, and an `allow` pattern does or there
/// are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NameList {
    /// Patterns. Default: everything.
    pub allow: Option<Vec<String>>,
    /// Patterns. Default: nothing.
    pub deny: Vec<String>,
}

pub(super) struct Access {
    principals: Box<[Glob]>,
    except_principals: Box<[Glob]>,
    methods: Option<List>,
    server_methods: Option<List>,
    tools: Option<List>,
    prompts: Option<List>,
    resources: Option<List>,
}

/// A [`NameList`] that says something, taken apart.
struct List {
    allow: Option<Box<[Glob]>>,
    deny: Box<[Glob]>,
    always: &'static [&'static str],
}

/// What clients cannot do without.
const CLIENT_BASICS: &[&str] = &[
    "initialize",
    "notifications/initialized",
    "server/discover",
    "ping",
    "notifications/cancelled",
    "notifications/progress",
];
/// What servers cannot do without.
const SERVER_BASICS: &[&str] = &[
    "ping",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/subscriptions/acknowledged",
];

impl Access {
    pub(super) fn new(config: &AccessConfig) -> Result<Self, Wrong> {
        let list = |field: &str, names: &NameList, always| List::new(field, names, always);
        let access = Self {
            principals: Glob::parse_all("principals", &config.principals)?,
            except_principals: Glob::parse_all("except_principals", &config.except_principals)?,
            methods: list("methods", &config.methods, CLIENT_BASICS)?,
            server_methods: list("server_methods", &config.server_methods, SERVER_BASICS)?,
            tools: list("tools", &config.tools, &[])?,
            prompts: list("prompts", &config.prompts, &[])?,
            resources: list("resources", &config.resources, &[])?,
        };
        let all = [
            &access.methods,
            &access.server_methods,
            &access.tools,
            &access.prompts,
            &access.resources,
        ];
        if all.iter().all(|list| list.is_none()) {
            let reason = "nothing is allowed or denied: give at least one of methods, \
                          server_methods, tools, prompts, resources";
            return Err(Wrong::new("methods", reason));
        }
        Ok(access)
    }

    /// Whether it is about this principal.
    fn concerns(&self, principal: &Principal) -> bool {
        match principal {
            Principal::Anonymous => self.principals.is_empty(),
            Principal::Named(name) => {
                (self.principals.is_empty() || glob::any(&self.principals, name))
                    && !glob::any(&self.except_principals, name)
            }
        }
    }

    /// Whether principals see different lists.
    fn is_personal(&self) -> bool {
        !self.principals.is_empty() || !self.except_principals.is_empty()
    }

    fn check_client(&self, cx: &MessageContext, message: &Message) -> Result<(), Rejection> {
        let Some(method) = message.method() else {
            return Ok(());
        };
        if !self.methods.as_ref().is_none_or(|list| list.admits(method)) {
            return Err(unknown_method(method));
        }
        match method {
            "completion/complete" => self.completion(message),
            "subscriptions/listen" => self.listen(message),
            _ => self.named(cx, message, method),
        }
    }

    /// A request that names one tool, prompt or resource.
    fn named(&self, cx: &MessageContext, message: &Message, method: &str) -> Result<(), Rejection> {
        let Some(member) = member(method) else {
            return Ok(());
        };
        let (list, what) = match method {
            "tools/call" => (&self.tools, "tool"),
            "prompts/get" => (&self.prompts, "prompt"),
            _ => (&self.resources, "resource"),
        };
        let Some(list) = list else {
            return Ok(());
        };
        let from_body;
        let name = match &cx.name {
            Some(name) => &**name,
            None => {
                // Without a name there is nothing to allow; the server might make one up.
                let missing = || invalid(format!("`{member}` is missing or not a string"));
                from_body = subject(message).ok_or_else(missing)?;
                &from_body
            }
        };
        if list.admits_name(name, what) {
            Ok(())
        } else {
            Err(invalid(format!("Unknown {what}: {name}")))
        }
    }

    /// Arguments of a prompt or a resource template are completed only for who may use it.
    fn completion(&self, message: &Message) -> Result<(), Rejection> {
        let Some(reference) = message.param("ref") else {
            return Ok(());
        };
        for (member, list, what) in [
            ("name", &self.prompts, "prompt"),
            ("uri", &self.resources, "resource"),
        ] {
            let Some(list) = list else { continue };
            for value in Value::root(&reference).all(member) {
                match value.string() {
                    Some(name) if list.admits_name(&name, what) => {}
                    _ => return Err(invalid(format!("Unknown {what} in ref"))),
                }
            }
        }
        Ok(())
    }

    fn listen(&self, message: &Message) -> Result<(), Rejection> {
        let (Some(list), Some(wanted)) = (&self.resources, message.param("notifications")) else {
            return Ok(());
        };
        for uris in Value::root(&wanted).all("resourceSubscriptions") {
            for uri in uris.elements() {
                match uri.string() {
                    Some(uri) if list.admits_name(&uri, "resource") => {}
                    _ => return Err(invalid("Unknown resource in resourceSubscriptions".into())),
                }
            }
        }
        Ok(())
    }

    fn check_server(&self, message: &Message) -> Result<(), Rejection> {
        let Some(method) = message.method() else {
            return Ok(());
        };
        if !self
            .server_methods
            .as_ref()
            .is_none_or(|list| list.admits(method))
        {
            return Err(unknown_method(method));
        }
        if let ("notifications/resources/updated", Some(list)) = (method, &self.resources)
            && !subject(message).is_some_and(|uri| list.admits_name(&uri, "resource"))
        {
            return Err(invalid("Unknown resource".into()));
        }
        Ok(())
    }
}

impl Interceptor for Access {
    fn name(&self) -> &str {
        "access"
    }

    fn interest(&self) -> Interest {
        let mut requests = Vec::new();
        let mut answers = Vec::new();
        if self.tools.is_some() {
            requests.push("tools/call");
            answers.push("tools/list");
        }
        if self.prompts.is_some() {
            requests.extend(["prompts/get", "completion/complete"]);
            answers.push("prompts/list");
        }
        if self.resources.is_some() {
            requests.extend(["resources/*", "completion/complete", "subscriptions/listen"]);
            answers.extend(["resources/list", "resources/templates/list"]);
            answers.push("notifications/resources/updated");
        }
        let methods = |list: &Option<List>, names: Vec<&str>| match list {
            Some(_) => Methods::All,
            None => Methods::Only(names.into_iter().map(String::from).collect()),
        };
        Interest {
            to_upstream: methods(&self.methods, requests),
            to_client: methods(&self.server_methods, answers),
            ..Interest::default()
        }
    }

    fn intercept(&self, cx: &MessageContext, message: &Message) -> Action {
        let is_list = cx.direction == Direction::ToClient && message.kind() == Kind::Response;
        if !self.concerns(&cx.principal) {
            // Others see less than this one does, so that a shared cache must not keep it.
            if is_list && self.is_personal() {
                return self.filtered(cx, message, false);
            }
            return Action::Continue;
        }
        let decided = match cx.direction {
            Direction::ToUpstream => self.check_client(cx, message),
            Direction::ToClient if is_list => return self.filtered(cx, message, true),
            Direction::ToClient => self.check_server(message),
        };
        match decided {
            Ok(()) => Action::Continue,
            Err(rejection) => Action::Reject(rejection),
        }
    }
}

impl List {
    fn new(
        field: &str,
        names: &NameList,
        always: &'static [&'static str],
    ) -> Result<Option<Self>, Wrong> {
        if names.allow.is_none() && names.deny.is_empty() {
            return Ok(None);
        }
        let allow = match &names.allow {
            Some(allow) => Some(Glob::parse_all(&format!("{field}.allow"), allow)?),
            None => None,
        };
        Ok(Some(Self {
            allow,
            deny: Glob::parse_all(&format!("{field}.deny"), &names.deny)?,
            always,
        }))
    }

    fn admits(&self, name: &str) -> bool {
        let allowed = match &self.allow {
            None => true,
            Some(allow) => self.always.contains(&name) || glob::any(allow, name),
        };
        allowed && !glob::any(&self.deny, name)
    }

    fn admits_name(&self, name: &str, what: &str) -> bool {
        self.admits(name) && !(what == "resource" && climbs(name))
    }
}

/// Whether a URI has a `..` segment, also a percent-encoded one: `file:///public/../secret` fits
/// `file:///public/*`, and what it means is up to the server.
fn climbs(uri: &str) -> bool {
    let plain = uri
        .to_ascii_lowercase()
        .replace("%2e", ".")
        .replace("%2f", "/");
    plain
        .replace("%5c", "/")
        .split(['/', '\\'])
        .any(|segment| segment == "..")
}

fn unknown_method(method: &str) -> Rejection {
    Rejection {
        code: code::METHOD_NOT_FOUND,
        message: format!("Method not found: {method}"),
        reason: REASON.into(),
    }
}

fn invalid(message: String) -> Rejection {
    Rejection {
        code: code::INVALID_PARAMS,
        message,
        reason: REASON.into(),
    }
}

/// `data.reason` of what it refuses.
const REASON: &str = "access_denied";
