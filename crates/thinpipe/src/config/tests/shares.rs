//! How many sessions and calls there may be, of one principal, of all, and of a program.

use super::bridge::only;
use super::messages::upstream_says;
use super::{ONE, toml};

/// What one principal may have is a part of what all may have.
#[test]
fn no_principal_has_more_than_all() {
    upstream_says(
        "session_pool = { max = 9, total = 8 }",
        "upstreams[0].session_pool.max: 9 of one principal is more than the 8 of all clients",
        "raise `session_pool.total`, or lower this",
    );
    let few = only(&format!("{ONE}session_pool = {{ total = 3 }}\n"));
    assert_eq!(few.bridge.pool.max, 3);
    upstream_says(
        "parked = { per_principal = 101, max = 100 }",
        "upstreams[0].parked.per_principal: 101 of one principal is more than the 100 of all clients",
        "raise `parked.max`, or lower this",
    );
    only(&format!(
        "{ONE}parked = {{ per_principal = 100, max = 100 }}\n"
    ));
}

/// Each session of a program is a process: more than may run there cannot be.
#[test]
fn no_program_has_more_sessions_than_processes() {
    let program = "[[upstreams]]\ncommand = \"sh\"\nprocess = { max_children = 4 }\n";
    for (key, also) in [("max", ""), ("total", ""), ("max", ", total = 4")] {
        let problems = toml(&format!("{program}session_pool = {{ {key} = 5{also} }}\n"));
        let said = problems.unwrap_err().to_string();
        for part in [
            &format!("upstreams[0].session_pool.{key}: 5 sessions are more than the 4 processes"),
            "raise `process.max_children`, or lower this",
            "4",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(said.matches("more than").count(), 1, "{said}");
    }
    for line in ["", "session_pool = { max = 4, total = 4 }\n"] {
        let pool = only(&format!("{program}{line}")).bridge.pool;
        assert_eq!((pool.max, pool.total), (4, 4), "{line}");
    }
}
