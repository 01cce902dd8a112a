//! A validating JSON scanner over bytes (RFC 8259). It builds nothing: it tells where a value ends,
//! and refuses what no two parsers should have to agree on.
//!
//! Iterative, so that no input can exhaust the stack; one bit of state for each open container.

/// How deep containers may nest, the outermost counted.
pub(super) const MAX_DEPTH: u32 = 128;

/// Part of the scanned text. 32 bits keep an outline small; longer texts are refused beforehand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self {
            start: narrow(start),
            end: narrow(end),
        }
    }

    pub(super) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(super) fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.range()).unwrap_or_default()
    }

    /// Where it is when the text at `at` has been replaced by one of this length. It is that text, holds it, or lies
    /// beside it.
    pub(super) fn moved(self, at: Self, length: u32) -> Self {
        let place = |position: u32| match position.checked_sub(at.end) {
            Some(behind) => at.start + length + behind,
            None => position,
        };
        Self {
            start: place(self.start),
            end: place(self.end),
        }
    }
}

/// Positions fit into 32 bits, as texts over 4 GiB are refused before they are scanned.
fn narrow(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// Why a text was refused, and where.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) what: &'static str,
    /// The text may be JSON, but goes over a limit.
    pub(super) limit: bool,
}

/// The scanner has refused its text, and holds the [`Fault`]. Without a size, so that the results
/// of the inner loops fit into registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused;

pub(super) type Scan<T> = Result<T, Refused>;

/// The content of a string, quotes excluded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) span: Span,
    pub(super) escaped: bool,
}

#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    fault: Fault,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            fault: Fault::default(),
        }
    }

    pub(super) fn text(&self) -> &'a [u8] {
        self.text
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The byte under the cursor.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    pub(super) fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes one byte if it is the one named.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Refuses the text, as it is not JSON.
    #[cold]
    pub(super) fn refuse(&mut self, what: &'static str) -> Refused {
        self.fault = Fault {
            at: self.at,
            what,
            limit: false,
        };
        Refused
    }

    /// Refuses the text, as it goes over a limit.
    #[cold]
    pub(super) fn refuse_over_limit(&mut self, what: &'static str) -> Refused {
        self.fault = Fault {
            at: self.at,
            what,
            limit: true,
        };
        Refused
    }

    pub(super) fn has_refused(&self) -> bool {
        !self.fault.what.is_empty()
    }

    /// What the text was refused for.
    pub(super) fn fault(&self) -> Fault {
        self.fault
    }

    /// Moves the cursor over what another scanner has accepted.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Nothing but white space may be left.
    pub(super) fn end(&mut self) -> Scan<()> {
        self.space();
        if self.at == self.text.len() {
            return Ok(());
        }
        Err(self.refuse("text after the end of the value"))
    }

    /// Walks an object under the cursor. `member` gets each key, with the cursor on its value, and
    /// must move it behind the value. Ends behind the closing brace; `depth` counts this object.
    #[inline]
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Text) -> Scan<()>,
    ) -> Scan<()> {
        self.at += 1;
        self.space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            member(self, key)?;
            self.space();
            if self.take(b',') {
                self.space();
            } else if self.take(b'}') {
                return Ok(());
            } else {
                return Err(self.refuse("expected ',' or '}'"));
            }
        }
    }

    /// Walks an array under the cursor, as [`Self::object`] does an object.
    pub(super) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            self.space();
            if self.take(b',') {
                self.space();
            } else if self.take(b']') {
                return Ok(());
            } else {
                return Err(self.refuse("expected ',' or ']'"));
            }
        }
    }

    /// A key and its colon; leaves the cursor on the value.
    #[inline]
    fn key(&mut self) -> Scan<Text> {
        if self.peek() != Some(b'"') {
            return Err(self.refuse("expected a member name"));
        }
        let key = self.string()?;
        self.space();
        if !self.take(b':') {
            return Err(self.refuse("expected ':'"));
        }
        self.space();
        Ok(key)
    }

    /// Skips the value under the cursor, inside `depth` open containers. Returns where it lies.
    #[inline]
    pub(super) fn value(&mut self, depth: u32) -> Scan<Span> {
        let start = self.at;
        self.skip(depth)?;
        Ok(Span::new(start, self.at))
    }

    fn skip(&mut self, depth: u32) -> Scan<()> {
        // One bit for each container opened here, the innermost lowest: set for an object.
        let mut objects: u128 = 0;
        let mut level: u32 = 0;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.content()?;
                }
                Some(open @ (b'{' | b'[')) => {
                    if depth + level >= MAX_DEPTH {
                        return Err(self.refuse_over_limit("nested more than 128 levels deep"));
                    }
                    self.at += 1;
                    self.space();
                    let object = open == b'{';
                    if !self.take(if object { b'}' } else { b']' }) {
                        objects = (objects << 1) | u128::from(object);
                        level += 1;
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                Some(_) => return Err(self.refuse("expected a value")),
                None => return Err(self.refuse("ends where a value should be")),
            }
            // Behind a value: on to the next one, or out of the containers that end here.
            loop {
                if level == 0 {
                    return Ok(());
                }
                self.space();
                let object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ if object => return Err(self.refuse("expected ',' or '}'")),
                    _ => return Err(self.refuse("expected ',' or ']'")),
                }
                self.at += 1;
                objects >>= 1;
                level -= 1;
            }
        }
    }

    fn literal(&mut self, word: &[u8]) -> Scan<()> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(self.refuse("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Scan<()> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Scan<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.refuse("expected a digit"));
        }
        Ok(())
    }

    /// The string whose opening quote is under the cursor.
    #[inline]
    pub(super) fn string(&mut self) -> Scan<Text> {
        let start = self.at + 1;
        let escaped = self.content()?;
        Ok(Text {
            span: Span::new(start, self.at - 1),
            escaped,
        })
    }

    /// Skips the string under the cursor; tells whether there are escapes in it. Returns no more
    /// than that, as a result in memory costs as much as a short string.
    fn content(&mut self) -> Scan<bool> {
        let start = self.at + 1;
        let mut escaped = false;
        let mut high = 0;
        self.at = start;
        loop {
            self.at = plain_end(self.text, self.at, &mut high);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.refuse("unescaped control character in a string")),
                None => return Err(self.refuse("ends inside a string")),
            }
        }
        if high != 0 {
            self.utf8(start)?;
        }
        self.at += 1;
        Ok(escaped)
    }

    #[inline(never)]
    fn utf8(&mut self, start: usize) -> Scan<()> {
        let content = self.text.get(start..self.at).unwrap_or_default();
        std::str::from_utf8(content).map(|_| ()).map_err(|error| {
            self.at = start + error.valid_up_to();
            self.refuse("not UTF-8")
        })
    }

    /// The escape whose backslash is under the cursor.
    fn escape(&mut self) -> Scan<()> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let lone = match self.unit()? {
                    0xd800..=0xdbff => !matches!(self.unit(), Ok(0xdc00..=0xdfff)),
                    unit => (0xdc00..=0xdfff).contains(&unit),
                };
                if lone {
                    return Err(self.refuse("lone surrogate"));
                }
            }
            _ => return Err(self.refuse("unknown escape")),
        }
        Ok(())
    }

    /// `\uXXXX` under the cursor.
    fn unit(&mut self) -> Scan<u32> {
        let unit = self.text.get(self.at..self.at + 6).and_then(code_unit);
        let Some(unit) = unit else {
            return Err(self.refuse("unknown escape"));
        };
        self.at += 6;
        Ok(unit)
    }
}

/// The UTF-16 code unit that `\uXXXX` names.
pub(super) fn code_unit(escape: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = escape else {
        return None;
    };
    let mut unit = 0;
    for &digit in digits.first_chunk::<4>()? {
        unit = unit << 4 | char::from(digit).to_digit(16)?;
    }
    Some(unit)
}

/// Where the run of characters that stand for themselves ends: at a quote, a backslash, a control
/// character or the end of the text. `high` becomes nonzero if any of them is not ASCII.
#[inline]
fn plain_end(text: &[u8], mut at: usize, high: &mut u64) -> usize {
    // Most strings are short: words first, so that those need no setup.
    for _ in 0..4 {
        let Some(word) = word_at(text, at) else { break };
        match special(word, high) {
            Some(offset) => return at + offset,
            None => at += 8,
        }
    }
    long_plain_end(text, at, high)
}

#[inline(never)]
fn long_plain_end(text: &[u8], mut at: usize, high: &mut u64) -> usize {
    // Compiles to vector instructions: no branch inside, one for the block.
    while let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk::<64>) {
        let mut stop = 0u8;
        let mut all = 0u8;
        for &byte in block {
            stop |= u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
            all |= byte;
        }
        if stop != 0 {
            break;
        }
        *high |= u64::from(all & 0x80);
        at += 64;
    }
    while let Some(word) = word_at(text, at) {
        match special(word, high) {
            Some(offset) => return at + offset,
            None => at += 8,
        }
    }
    while let Some(&byte) = text.get(at) {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            break;
        }
        *high |= u64::from(byte & 0x80);
        at += 1;
    }
    at
}

#[inline]
fn word_at(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?
        .first_chunk::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes))
}

/// Where the first quote, backslash or control character of eight bytes is. The subtractions borrow
/// only above a true hit, so that the lowest hit is exact; only that one counts.
#[inline]
fn special(word: u64, high: &mut u64) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = ONES << 7;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let hits = (quote.wrapping_sub(ONES) & !quote
        | backslash.wrapping_sub(ONES) & !backslash
        | word.wrapping_sub(ONES * 0x20) & !word)
        & TOPS;
    if hits == 0 {
        *high |= word & TOPS;
        return None;
    }
    let below = (hits & hits.wrapping_neg()) - 1;
    *high |= word & TOPS & below;
    Some(hits.trailing_zeros() as usize / 8)
}
