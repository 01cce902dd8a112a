//! The arguments of a call, taken apart as far as headers repeat them.

use bytes::Bytes;

use crate::rpc::{Object, is_object};

/// Arguments that are looked up by their places. The objects on the way to the last one stay taken apart, so
/// that siblings are found without reading all of it again: schemas name them in one go.
pub(super) struct Arguments {
    root: Result<Object, Ambiguous>,
    /// The way to the last one.
    open: Vec<(String, Object)>,
}

/// An object on the way names a member twice: two readers may find different arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ambiguous;

impl Arguments {
    pub(super) fn new(arguments: Option<&Bytes>) -> Self {
        let root = match arguments.filter(|arguments| is_object(arguments)) {
            Some(arguments) => Object::parse(arguments).map_err(|_| Ambiguous),
            None => Ok(Object::new()),
        };
        let open = Vec::new();
        Self { root, open }
    }

    /// The argument at a place; `None`: there is none.
    pub(super) fn get(&mut self, path: &[String]) -> Result<Option<Bytes>, Ambiguous> {
        let Some((last, parents)) = path.split_last() else {
            return Ok(None);
        };
        let on_the_way = self.open.iter().zip(parents);
        let common = on_the_way.take_while(|((open, _), name)| open == *name);
        let common = common.count();
        self.open.truncate(common);
        for name in parents.iter().skip(common) {
            let inner = self.innermost()?.get(name);
            let Some(inner) = inner.filter(|inner| is_object(inner)) else {
                return Ok(None);
            };
            let inner = Object::parse(inner).map_err(|_| Ambiguous)?;
            self.open.push((name.clone(), inner));
        }
        Ok(self.innermost()?.get(last).cloned())
    }

    fn innermost(&self) -> Result<&Object, Ambiguous> {
        match self.open.last() {
            Some((_, object)) => Ok(object),
            None => self.root.as_ref().map_err(|ambiguous| *ambiguous),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(arguments: &str, paths: &[&str]) -> Vec<Result<Option<String>, Ambiguous>> {
        let arguments = Bytes::copy_from_slice(arguments.as_bytes());
        let mut arguments = Arguments::new(Some(&arguments));
        let get = |path: &&str| {
            let path: Vec<String> = path.split('/').map(str::to_owned).collect();
            let found = arguments.get(&path)?;
            Ok(found.map(|value| String::from_utf8(value.to_vec()).unwrap()))
        };
        paths.iter().map(get).collect()
    }

    #[test]
    fn arguments_are_found_in_any_order() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        let arguments = r#"{"a":{"b":{"c":1,"d":2},"e":3},"b":{"c":4},"f":[{"c":5}]}"#;
        let paths = [
            "a/b/c", "a/b/d", "a/e", "b/c", "a/b/c", "a/x/c", "f/c", "a/e/c", "f",
        ];
        let expected = [
            some("1"),
            some("2"),
            some("3"),
            some("4"),
            some("1"),
            Ok(None),
            Ok(None),
            Ok(None),
            some(r#"[{"c":5}]"#),
        ];
        assert_eq!(found(arguments, &paths), expected);
        assert_eq!(found("[1]", &["a"]), [Ok(None)]);
        assert_eq!(Arguments::new(None).get(&["a".to_owned()]), Ok(None));
    }

    #[test]
    fn what_is_there_twice_is_ambiguous() {
        let twice = r#"{"a":{"x":1,"x":2},"b":1}"#;
        assert_eq!(
            found(twice, &["a/y", "b"]),
            [Err(Ambiguous), Ok(Some("1".to_owned()))]
        );
        assert_eq!(found(r#"{"a":1,"b":2,"b":2}"#, &["a"]), [Err(Ambiguous)]);
    }
}
