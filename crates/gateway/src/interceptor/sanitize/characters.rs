//! Which characters are not wanted, and how they are taken out.

use std::iter::Peekable;
use std::str::Chars;

/// The characters that are not wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forbidden {
    /// Also those that cannot be seen.
    pub(super) hidden: bool,
}

impl Forbidden {
    /// Whether such a character may be in JSON text, escaped or not. `false` is certain; it is meant
    /// to be fast for text that is clean.
    pub(super) fn possible_in(self, text: &[u8]) -> bool {
        let mut at = 0;
        while let Some(found) = memchr::memchr3(b'\\', 0x7f, 0xc2, rest(text, at)) {
            at += found;
            match (text.get(at), text.get(at + 1)) {
                (Some(0x7f), _) | (Some(0xc2), Some(0x80..=0x9f)) => return true,
                (Some(b'\\'), Some(b'b' | b'f')) => return true,
                (Some(b'\\'), Some(b'u')) if self.is_escape(rest(text, at + 2)) => return true,
                // Two characters, so that the second of `\\` is no escape of its own.
                (Some(b'\\'), _) => at += 2,
                _ => at += 1,
            }
        }
        // First bytes of everything that is hidden.
        let hidden = |byte: &u8| matches!(byte, 0xd8 | 0xe1 | 0xe2 | 0xef | 0xf3);
        self.hidden && text.iter().any(hidden)
    }

    /// Whether the digits of a `\u` escape stand for such a character, or for half a pair.
    fn is_escape(self, digits: &[u8]) -> bool {
        let unit = digits
            .get(..4)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(unit) = unit.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
            return true;
        };
        match char::from_u32(unit) {
            Some(character) => self.is(character),
            None => self.hidden,
        }
    }

    /// Whether such a character is in a text.
    pub(super) fn are_in(self, text: &str) -> bool {
        text.chars().any(|character| self.is(character))
    }

    fn is(self, character: char) -> bool {
        match character {
            '\t' | '\n' | '\r' => false,
            character if character.is_control() => true,
            character => self.hidden && is_hidden(character),
        }
    }

    /// The text without them, and without the escape sequences that some of them begin.
    pub(super) fn strip(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut chars = text.chars().peekable();
        while let Some(character) = chars.next() {
            match character {
                '\u{1b}' => skip_escape(&mut chars),
                '\u{9b}' => skip_control_sequence(&mut chars),
                '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => {
                    skip_control_string(&mut chars);
                }
                character if self.is(character) => {}
                character => out.push(character),
            }
        }
        out
    }
}

fn rest(text: &[u8], at: usize) -> &[u8] {
    text.get(at..).unwrap_or_default()
}

/// Marks and overrides of writing direction, zero-width characters, tags, and the variation
/// selectors that carry hidden text.
fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e01ef}')
}

/// What follows an ESC (ECMA-48 5.3 and ECMA-35 13.2).
fn skip_escape(chars: &mut Peekable<Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_control_sequence(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            chars.next();
            skip_control_string(chars);
        }
        _ => {
            while chars.next_if(|next| matches!(next, ' '..='/')).is_some() {}
            chars.next_if(|next| matches!(next, '0'..='~'));
        }
    }
}

/// Parameters, intermediates and the final character of a control sequence (ECMA-48 5.4).
fn skip_control_sequence(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|next| matches!(next, '0'..='?')).is_some() {}
    while chars.next_if(|next| matches!(next, ' '..='/')).is_some() {}
    chars.next_if(|next| matches!(next, '@'..='~'));
}

/// A control string up to its terminator (ECMA-48 5.6; terminals take BEL too). One that is never
/// terminated keeps its text: without its beginning it is text.
fn skip_control_string(chars: &mut Peekable<Chars<'_>>) {
    let mut ahead = chars.clone();
    while let Some(character) = ahead.next() {
        let ended = match character {
            '\u{7}' | '\u{9c}' => true,
            '\u{1b}' => ahead.next_if_eq(&'\\').is_some(),
            _ => false,
        };
        if ended {
            *chars = ahead;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: Forbidden = Forbidden { hidden: false };
    const HIDDEN: Forbidden = Forbidden { hidden: true };

    /// E11
    #[test]
    fn escape_sequences_are_stripped_as_a_whole() {
        for (text, clean) in [
            ("a\tb\r\nc", "a\tb\r\nc"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{9b}2Jgone", "gone"),
            ("\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{7}", "link"),
            ("\u{9d}0;title\u{9c}x", "x"),
            ("\u{1b}]0;never ended", "0;never ended"),
            ("\u{1b}(Bcharset\u{1b}c", "charset"),
            ("bell\u{7} del\u{7f} nul\0 nel\u{85}", "bell del nul nel"),
            ("ends in\u{1b}", "ends in"),
        ] {
            assert_eq!(CONTROL.strip(text), clean, "{text:?}");
            assert_eq!(CONTROL.are_in(text), text != clean, "{text:?}");
        }
        assert_eq!(HIDDEN.strip("a\u{202e}b\u{200b}c\u{e0041}d"), "abcd");
        assert!(!CONTROL.are_in("a\u{202e}b\u{200b}c\u{e0041}d"));
    }

    #[test]
    fn what_is_possible_is_told_from_the_text_of_json() {
        for clean in [
            r#"plain \n \t \r \" \\ \/ \u0041"#,
            r#"a backslash before a letter: \\u001b \\b"#,
            "é ü ß \u{a0} 日本",
        ] {
            assert!(!CONTROL.possible_in(clean.as_bytes()), "{clean}");
        }
        for unclean in [
            r"\u001b[0m",
            r"\u007F",
            r"\u009b",
            r"\b",
            r"\\\f",
            "\u{7f}",
            "\u{85}",
        ] {
            assert!(CONTROL.possible_in(unclean.as_bytes()), "{unclean:?}");
        }
        for hidden in [
            "\u{202e}",
            "\u{61c}",
            "\u{feff}",
            "\u{e0041}",
            r"\u200b",
            r"\udb40\udc41",
        ] {
            assert!(HIDDEN.possible_in(hidden.as_bytes()), "{hidden:?}");
            assert!(!CONTROL.possible_in(hidden.as_bytes()), "{hidden:?}");
        }
    }
}
