//! Did you mean?

/// The candidate that looks most like `found`, if any looks like it at all: at most a third of its
/// letters differ, transposed neighbours counting as one difference; or it is the only one that begins so.
pub(crate) fn closest<'a>(found: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let plain = plain(found);
    let begins = |name: &&&str| self::plain(name).starts_with(&plain);
    let mut begun = candidates.iter().filter(begins);
    if let (true, Some(only), None) = (plain.len() > 1, begun.next(), begun.next()) {
        return Some(only);
    }
    candidates
        .iter()
        .map(|name| (distance(&plain, &self::plain(name)), *name))
        .filter(|(distance, name)| *distance <= (name.len().max(found.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `maxBody`, `max-body` and `max_body` are spelled alike.
fn plain(name: &str) -> Vec<char> {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut table: Vec<usize> = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            let at = i * width + j;
            if i == 0 || j == 0 {
                table[at] = i + j;
                continue;
            }
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (table[at - width] + 1)
                .min(table[at - 1] + 1)
                .min(table[at - width - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(table[at - 2 * width - 2] + 1);
            }
            table[at] = least;
        }
    }
    table[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_is_suggested_and_the_rest_is_not() {
        let names = ["listen", "admin", "max_body", "upstreams"];
        assert_eq!(closest("lsiten", &names), Some("listen"));
        assert_eq!(closest("maxBody", &names), Some("max_body"));
        assert_eq!(closest("upstream", &names), Some("upstreams"));
        assert_eq!(closest("colour", &names), None);
        assert_eq!(closest("of", &["on", "off"]), Some("off"));
        assert_eq!(closest("warn", &["info", "warning"]), Some("warning"));
        assert_eq!(closest("in", &["info", "inner"]), None);
        assert_eq!(closest("u", &names), None);
        assert_eq!(closest("", &names), None);
        assert_eq!(closest("x", &[]), None);
    }
}
