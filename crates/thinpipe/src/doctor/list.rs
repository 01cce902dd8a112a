//! The lists of a server, page by page.

use std::collections::BTreeMap;

use serde_json::Value;

/// Lists, or why there are none, by the method that reads them.
pub(crate) type Lists = BTreeMap<&'static str, Result<List, String>>;

/// The lists a server may have: capability, method, and where the items stand in the result.
const LISTS: [(&str, &str, &str); 3] = [
    ("tools", "tools/list", "tools"),
    ("prompts", "prompts/list", "prompts"),
    ("resources", "resources/list", "resources"),
];
/// Pages of one list: a server whose pages never end is not asked for all of them.
const MAX_PAGES: usize = 20;
/// Names in one list.
const MAX_NAMES: usize = 10_000;

/// One list, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct List {
    /// The names in it.
    pub(crate) names: Vec<String>,
    /// There are more pages than were read.
    pub(crate) goes_on: bool,
}

/// Reads the lists of a server with these capabilities. `page` asks for a page: of which capability, by which
/// method, behind which cursor.
pub(super) async fn read_all(
    capabilities: &Value,
    mut page: impl AsyncFnMut(&str, &str, Option<&str>) -> Result<Value, String>,
) -> Lists {
    let mut lists = Lists::new();
    for (capability, method, key) in LISTS {
        if capabilities.get(capability).is_some() {
            let read = read(key, async |cursor| page(capability, method, cursor).await);
            lists.insert(method, read.await);
        }
    }
    lists
}

/// Reads a list to its end, or as far as one is read. `page` asks for the page behind a cursor, for the first
/// one without.
///
/// # Errors
/// For people: a page could not be read.
async fn read(
    key: &str,
    mut page: impl AsyncFnMut(Option<&str>) -> Result<Value, String>,
) -> Result<List, String> {
    let mut list = List::default();
    let mut cursor: Option<String> = None;
    for number in 1..=MAX_PAGES {
        let added = match page(cursor.as_deref()).await {
            Ok(result) => list.add(&result, key),
            Err(error) => Err(error),
        };
        cursor = added.map_err(|error| match number {
            1 => error,
            _ => format!("page {number}: {error}"),
        })?;
        list.goes_on = cursor.is_some();
        if !list.goes_on || list.names.len() >= MAX_NAMES {
            break;
        }
    }
    Ok(list)
}

impl List {
    /// Takes a page; the cursor of the next one.
    fn add(&mut self, result: &Value, key: &str) -> Result<Option<String>, String> {
        let items = result[key].as_array();
        let items = items.ok_or_else(|| format!("the result has no `{key}`"))?;
        let name = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
        self.names.extend(items.iter().map(name));
        Ok(result["nextCursor"].as_str().map(str::to_owned))
    }
}
