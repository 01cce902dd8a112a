//! JSON pointers (RFC 6901) on text, with `*` as a segment that stands for every member or element.

use std::ops::ControlFlow;

use memchr::memchr;
use memchr::memmem::Finder;

use super::json::{Key, Place, Value};

/// A pointer, taken apart once.
#[derive(Debug, Clone)]
pub(super) struct Pointer {
    path: Box<[Segment]>,
    /// The innermost of the names it goes by: where that is not, there is nothing to find.
    landmark: Option<Box<Finder<'static>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    name: Box<str>,
    /// The name read as an index into an array.
    index: Option<usize>,
    every: bool,
}

impl Pointer {
    /// Takes a pointer apart. It has to begin with `/`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err("a JSON pointer begins with /".into());
        };
        let path = path.split('/').map(Segment::parse);
        Ok(Self::new(path.collect::<Result<_, _>>()?))
    }

    fn new(path: Box<[Segment]>) -> Self {
        let mut inwards = path.iter().rev();
        let innermost = inwards.find(|s| !s.every && s.index.is_none());
        let landmark = innermost.map(|s| Box::new(Finder::new(s.name.as_bytes()).into_owned()));
        Self { path, landmark }
    }

    /// The first segment.
    pub(super) fn first(&self) -> &str {
        self.path.first().map_or("", |segment| &segment.name)
    }

    /// How many segments it has.
    pub(super) fn len(&self) -> usize {
        self.path.len()
    }

    /// Whether it has a `*`.
    pub(super) fn has_wildcard(&self) -> bool {
        self.path.iter().any(|segment| segment.every)
    }

    /// The pointer to what holds the value, and the value's name in it.
    pub(super) fn parent(&self) -> Option<(Self, &str)> {
        let (last, holder) = self.path.split_last()?;
        Some((Self::new(holder.into()), &last.name))
    }

    /// Shows each value that it points at in `root`, in the order of the text, until told to stop.
    pub(super) fn visit<'a>(
        &self,
        root: Value<'a>,
        found: &mut impl FnMut(Value<'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if !self.may_be_in(root.raw()) {
            return ControlFlow::Continue(());
        }
        visit(Place::of(root), &self.path, found).map_continue(|_end| ())
    }

    /// Whether it could point at anything in this text, at the price of a search for one name. Where
    /// there is an escape, a name may be written in other ways than it reads.
    fn may_be_in(&self, text: &[u8]) -> bool {
        self.landmark
            .as_ref()
            .is_none_or(|name| name.find(text).is_some() || memchr(b'\\', text).is_some())
    }

    /// Whether any value that it points at satisfies this.
    pub(super) fn any<'a>(
        &self,
        root: Value<'a>,
        mut satisfies: impl FnMut(Value<'a>) -> bool,
    ) -> bool {
        let mut found = |value| match satisfies(value) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        self.visit(root, &mut found).is_break()
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        let mut name = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((plain, escaped)) = rest.split_once('~') {
            name.push_str(plain);
            rest = match escaped.as_bytes().first() {
                Some(b'0') => {
                    name.push('~');
                    &escaped[1..]
                }
                Some(b'1') => {
                    name.push('/');
                    &escaped[1..]
                }
                _ => {
                    return Err("in a JSON pointer, ~ is written ~0, and / within a name ~1".into());
                }
            };
        }
        name.push_str(rest);
        // RFC 6901 4: no leading zeros; anything else is the name of a member.
        let is_index = name == "0"
            || (!name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit()));
        Ok(Self {
            index: if is_index { name.parse().ok() } else { None },
            every: name == "*",
            name: name.into(),
        })
    }

    fn fits(&self, key: Key<'_>) -> bool {
        self.every
            || match key {
                Key::Name(_) => key.is_named(&self.name),
                Key::Index(index) => self.index == Some(index),
            }
    }
}

/// Gives the end of the value.
fn visit<'a>(
    place: Place<'a>,
    path: &[Segment],
    found: &mut impl FnMut(Value<'a>) -> ControlFlow<()>,
) -> ControlFlow<(), usize> {
    let Some((segment, path)) = path.split_first() else {
        let value = place.value();
        found(value)?;
        return ControlFlow::Continue(value.range().end);
    };
    // A member that is there twice is visited twice: nobody knows which of them the reader takes.
    place.entries(|key, entry| match segment.fits(key) {
        true => visit(entry, path, found),
        false => ControlFlow::Continue(entry.value().range().end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pointer: &str, text: &str) -> Vec<String> {
        let mut values = Vec::new();
        let root = Value::root(text.as_bytes());
        let _ = Pointer::parse(pointer).unwrap().visit(root, &mut |value| {
            values.push(String::from_utf8(value.raw().to_vec()).unwrap());
            ControlFlow::Continue(())
        });
        values
    }

    /// RFC 6901 section 5.
    #[test]
    fn the_examples_of_the_standard() {
        let text = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        for (pointer, value) in [
            ("/foo", r#"["bar","baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(at(pointer, text), [value], "{pointer}");
        }
        assert!(at("/foo/2", text).is_empty() && at("/foo/-", text).is_empty());
        assert!(at("/foo/01", text).is_empty() && at("/foo/bar", text).is_empty());
        assert!(Pointer::parse("foo").is_err() && Pointer::parse("/~2").is_err());
    }

    #[test]
    fn a_name_is_found_however_it_is_written() {
        assert_eq!(at("/a/secret", r#"{"a":{"s\u0065cret":1}}"#), ["1"]);
        assert_eq!(at("/a/secret", r#"{"a":{"secret":1,"b":"\\"}}"#), ["1"]);
        assert_eq!(at("/a\"b", r#"{"a\"b":1}"#), ["1"]);
        assert_eq!(at("/*/0", r#"{"a":[1]}"#), ["1"]);
        assert_eq!(at("/0", r#"{"0":1}"#), ["1"]);
        let pointer = Pointer::parse("/a/secret").unwrap();
        assert!(!pointer.may_be_in(br#"{"a":{"open":1}}"#));
    }

    #[test]
    fn a_star_visits_members_and_elements_and_a_repeated_member_is_visited_twice() {
        let text = r#"{"a":[{"x":1},{"x":2,"y":3}],"b":{"x":4},"x":5,"x":6}"#;
        assert_eq!(at("/a/*/x", text), ["1", "2"]);
        assert_eq!(at("/*/x", text), ["4"]);
        assert_eq!(at("/*/*/x", text), ["1", "2"]);
        assert_eq!(at("/x", text), ["5", "6"]);
    }
}
