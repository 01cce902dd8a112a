//! Text of a peer or of a file, as a log, a terminal or an error message may show it.
//!
//! Whoever chooses a text must not choose what a terminal does, where a line ends, in which direction
//! it reads, or how long it is.

use std::fmt;

/// The beginning of a text. `Display` writes characters that cannot be seen (control characters, marks of
/// writing direction, line separators) as escapes; `Debug` writes the same in quotes, so that it cannot
/// be mistaken for what stands around it.
///
/// ```
/// use thinpipe_proto::shown::Shown;
///
/// assert_eq!(Shown::new("a\u{1b}[2J", 99).to_string(), "a\\u{1b}[2J");
/// assert_eq!(Shown::new("abcdef", 3).to_string(), "abc… (6 bytes)");
/// ```
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    text: &'a [u8],
    max: usize,
}

impl<'a> Shown<'a> {
    /// The first `max` bytes of a text, which may be invalid UTF-8.
    #[must_use]
    pub fn new(text: &'a (impl AsRef<[u8]> + ?Sized), max: usize) -> Self {
        let text = text.as_ref();
        Self { text, max }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, quote: &str) -> fmt::Result {
        let shown = self.text.get(..self.max).unwrap_or(self.text);
        let is_cut = shown.len() < self.text.len();
        f.write_str(quote)?;
        let mut chunks = shown.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            for character in chunk.valid().chars() {
                let is_quote = !quote.is_empty() && matches!(character, '"' | '\\');
                if is_plain(character) && !is_quote {
                    write!(f, "{character}")?;
                } else {
                    write!(f, "{}", character.escape_debug())?;
                }
            }
            // The half of a character at the cut is no fault of the text.
            if chunks.peek().is_some() || !is_cut {
                write!(f, "{}", chunk.invalid().escape_ascii())?;
            }
        }
        f.write_str(quote)?;
        if is_cut {
            write!(f, "… ({} bytes)", self.text.len())?;
        }
        Ok(())
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "")
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "\"")
    }
}

/// Whether a character shows, as itself or as a mark on the one before it.
#[must_use]
pub fn is_plain(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    // The standard library knows what shows, and escapes marks only if there is nothing before them.
    let mut text = [b'a'; 5];
    let length = character.encode_utf8(&mut text[1..]).len();
    let shows = str::from_utf8(&text[..=length]).is_ok_and(|text| text.escape_debug().count() == 2);
    // Marks all the same, but they carry hidden text; the one of emoji is too common.
    shows && !matches!(character, '\u{fe00}'..='\u{fe0e}' | '\u{e0100}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E11: nothing a peer writes moves a cursor, ends a line or turns it round.
    #[test]
    fn e11_what_cannot_be_seen_is_escaped() {
        for (text, expected) in [
            (
                "plain \"text\" \\ with 'quotes', grüße",
                "plain \"text\" \\ with 'quotes', grüße",
            ),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}]0;x\u{7}\u{7f}", "\\u{1b}]0;x\\u{7}\\u{7f}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            (
                "a\u{202e}b\u{2066}c\u{200b}",
                "a\\u{202e}b\\u{2066}c\\u{200b}",
            ),
            ("\u{2028}\u{feff}\u{e0041}", "\\u{2028}\\u{feff}\\u{e0041}"),
            ("x\u{fe01}\u{e0101}", "x\\u{fe01}\\u{e0101}"),
            (
                "u\u{308} हिन्दी ไทย ❤\u{fe0f}",
                "u\u{308} हिन्दी ไทย ❤\u{fe0f}",
            ),
        ] {
            assert_eq!(Shown::new(text, 999).to_string(), expected);
        }
        assert_eq!(Shown::new(b"a\xff\x9b", 9).to_string(), "a\\xff\\x9b");
    }

    #[test]
    fn e11_a_long_text_is_cut_between_characters() {
        assert_eq!(Shown::new("abc", 3).to_string(), "abc");
        assert_eq!(Shown::new("abcd", 3).to_string(), "abc… (4 bytes)");
        assert_eq!(Shown::new("aé", 2).to_string(), "a… (3 bytes)");
        let quoted = format!("{:?}", Shown::new("a\"\n\\b=", 5));
        assert_eq!(quoted, "\"a\\\"\\n\\\\b\"… (6 bytes)");
    }
}
