//! Where a redirect leads: only to the same origin, and only with method and body kept.

use http::{StatusCode, Uri};

use super::connect::port;

/// Redirects followed for one request.
pub(super) const MAX_REDIRECTS: usize = 3;

/// Path and query to repeat the request at.
///
/// # Errors
/// Why the redirect must not be followed.
///
/// `base` is the URL of the endpoint, `target` the path and query just asked for.
pub(super) fn follow(
    status: StatusCode,
    base: &Uri,
    target: &str,
    location: &str,
) -> Result<String, &'static str> {
    if !matches!(
        status,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    ) {
        return Err("only 307 and 308 keep the method");
    }
    if location.is_empty() {
        return Err("it has no Location");
    }
    resolve(base, target, location).unwrap_or(Err("its Location is unclear"))
}

/// Path and query of a URI reference against `target` at the origin of `base`, or why it leads elsewhere.
/// `None`: nobody can be sure where it leads.
pub(super) fn resolve(
    base: &Uri,
    target: &str,
    location: &str,
) -> Option<Result<String, &'static str>> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str()?;
    let path = target.split('?').next().unwrap_or_default();
    let resolved = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        return target_of(&location.parse().ok()?).map(Ok);
    } else if location.starts_with('?') {
        return target_of(&format!("{path}{location}").parse().ok()?).map(Ok);
    } else if has_scheme(location) {
        location.to_owned()
    } else {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        return target_of(&format!("{folder}/{location}").parse().ok()?).map(Ok);
    };
    let resolved: Uri = resolved.parse().ok()?;
    if resolved.scheme_str() != Some(scheme)
        || resolved.authority()?.as_str().contains('@')
        || !resolved
            .host()?
            .eq_ignore_ascii_case(base.host().unwrap_or_default())
        || port(&resolved)? != port(base)?
    {
        return Some(Err("it leads to another origin"));
    }
    target_of(&resolved).map(Ok)
}

fn has_scheme(location: &str) -> bool {
    let name = location.split(['/', '?']).next().unwrap_or_default();
    name.contains(':')
}

/// Path and query. A path with dot segments is left to nobody's interpretation.
fn target_of(url: &Uri) -> Option<String> {
    let path = url.path();
    if path.split('/').any(|part| part == "." || part == "..") {
        return None;
    }
    Some(url.path_and_query()?.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(location: &str) -> Result<String, &'static str> {
        let base = Uri::from_static("http://a.example:80/v1/mcp?x=1");
        follow(
            StatusCode::TEMPORARY_REDIRECT,
            &base,
            "/v1/mcp?x=1",
            location,
        )
    }

    #[test]
    fn the_same_origin_is_followed() {
        for (location, target) in [
            ("/mcp/", "/mcp/"),
            ("mcp/", "/v1/mcp/"),
            ("?y=2", "/v1/mcp?y=2"),
            ("http://A.example/x?y#z", "/x?y"),
            ("//a.example:80/x", "/x"),
            ("http://a.example", "/"),
        ] {
            assert_eq!(to(location).as_deref(), Ok(target), "{location}");
        }
    }

    /// C15: credentials never go to another origin.
    #[test]
    fn other_origins_and_unclear_places_are_not() {
        for (location, why) in [
            ("https://a.example/x", "another origin"),
            ("http://b.example/x", "another origin"),
            ("http://a.example:8080/x", "another origin"),
            ("http://a.example:99999/x", "unclear"),
            ("//b.example/x", "another origin"),
            ("http://a.example@b.example/", "another origin"),
            ("http://u@a.example/", "another origin"),
            ("ftp:x", "another origin"),
            ("../x", "unclear"),
            ("/a/../x", "unclear"),
            ("/a b", "unclear"),
            ("", "no Location"),
        ] {
            let refused = to(location).unwrap_err();
            assert!(refused.contains(why), "{location}: {refused}");
        }
    }

    #[test]
    fn other_statuses_would_change_the_method() {
        let base = Uri::from_static("http://a.example/mcp");
        for status in [300, 301, 302, 303] {
            let status = StatusCode::from_u16(status).unwrap();
            let refused = follow(status, &base, "/mcp", "/x");
            assert!(refused.unwrap_err().contains("307"));
        }
    }
}
