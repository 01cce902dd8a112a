//! Where a redirect leads: only to the same origin, and only with method and body kept.

use http::{StatusCode, Uri};

use super::connect::port;

/// Redirects followed for one request.
pub(super) const MAX_REDIRECTS: usize = 3;

/// Path and query to repeat the request at. `None`: the redirect must not be followed.
///
/// `base` is the URL of the endpoint, `target` the path and query just asked for.
pub(super) fn follow(
    status: StatusCode,
    base: &Uri,
    target: &str,
    location: &str,
) -> Option<String> {
    if !matches!(
        status,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    ) {
        return None;
    }
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str()?;
    let path = target.split('?').next().unwrap_or_default();
    let resolved = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        return target_of(&location.parse().ok()?);
    } else if location.starts_with('?') {
        return target_of(&format!("{path}{location}").parse().ok()?);
    } else if has_scheme(location) {
        location.to_owned()
    } else {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        return target_of(&format!("{folder}/{location}").parse().ok()?);
    };
    let resolved: Uri = resolved.parse().ok()?;
    if resolved.scheme_str() != Some(scheme)
        || resolved.authority()?.as_str().contains('@')
        || !resolved
            .host()?
            .eq_ignore_ascii_case(base.host().unwrap_or_default())
        || port(&resolved)? != port(base)?
    {
        return None;
    }
    target_of(&resolved)
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

    fn to(location: &str) -> Option<String> {
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
            assert_eq!(to(location).as_deref(), Some(target), "{location}");
        }
    }

    /// C15: credentials never go to another origin.
    #[test]
    fn other_origins_and_unclear_places_are_not() {
        for location in [
            "https://a.example/x",
            "http://b.example/x",
            "http://a.example:8080/x",
            "http://a.example:99999/x",
            "//b.example/x",
            "http://a.example@b.example/",
            "http://u@a.example/",
            "ftp:x",
            "../x",
            "/a/../x",
            "/a b",
        ] {
            assert_eq!(to(location), None, "{location}");
        }
    }

    #[test]
    fn other_statuses_would_change_the_method() {
        let base = Uri::from_static("http://a.example/mcp");
        for status in [300, 301, 302, 303] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(follow(status, &base, "/mcp", "/x"), None);
        }
    }
}
