//! MCP servers over stdio, as programs that tests start: shell scripts of a few lines, so that nothing has
//! to be built and found for them. What one prints, and when, is what its script says.

/// Arguments for `/bin/sh` that make it a server with this script.
///
/// The script has these functions:
/// - `answer LINE RESULT`: writes the response to a request, given its line and the result as JSON text;
/// - `refuse LINE CODE`: writes an error response;
/// - `serve`: answers `initialize` as a server of 2025-06-18, refuses `server/discover` with -32601, gives
///   every other line back, and returns at the end of its input.
#[must_use]
pub fn script(script: &str) -> [String; 2] {
    ["-c".to_owned(), format!("{FUNCTIONS}\n{script}")]
}

const FUNCTIONS: &str = r#"
id_of() {
    id=${1#*\"id\":}
    id=${id%%,*}
    id=${id%\}}
}
answer() {
    id_of "$1"
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$2"
}
refuse() {
    id_of "$1"
    printf '{"jsonrpc":"2.0","id":%s,"error":{"code":%s,"message":"no"}}\n' "$id" "$2"
}
serve() {
    while IFS= read -r line; do
        case $line in
        *'"method":"server/discover"'*) refuse "$line" -32601 ;;
        *'"method":"initialize"'*)
            answer "$line" '{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"script","version":"1"}}'
            ;;
        *) printf '%s\n' "$line" ;;
        esac
    done
}
"#;
