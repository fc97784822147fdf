//! A document's text, measured before it is parsed: the parser recurses at every bracket and would run out of stack.

use std::ops::Range;

use super::{CostError, CostLimits, Counted};

/// Counts tokens and levels of brackets. What is no token at all is left to the parser to refuse.
///
/// # Errors
/// [`CostError::TooMuch`], and [`CostError::OpenString`] where the parser would go on after the quote as if the
/// string had been closed, and this count would not.
pub fn scan(text: &str, limits: &CostLimits) -> Result<u64, CostError> {
    Counted::DocumentBytes.limit(text.len() as u64, limits.document_bytes_max)?;
    let (mut tokens, mut nesting) = (0_u64, 0_u64);
    for token in Tokens::of(text) {
        let token = token?;
        tokens += 1;
        Counted::Tokens.limit(tokens, limits.tokens_max)?;
        match text.as_bytes()[token.start] {
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                Counted::NameBytes.limit(token.len() as u64, limits.name_bytes_max)?;
            }
            b'{' | b'[' | b'(' => {
                nesting += 1;
                Counted::Nesting.limit(nesting, limits.nesting_max)?;
            }
            b'}' | b']' | b')' => nesting = nesting.saturating_sub(1),
            _ => {}
        }
    }
    Ok(tokens)
}

/// The tokens of a document as places in its text, none empty; what the grammar ignores lies between them.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    /// The tokens of a text.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        Self {
            bytes: text.as_bytes(),
            at: 0,
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Result<Range<usize>, CostError>;

    fn next(&mut self) -> Option<Self::Item> {
        let byte = loop {
            match *self.bytes.get(self.at)? {
                b'#' => {
                    self.at += count(&self.bytes[self.at..], |byte| {
                        !matches!(byte, b'\n' | b'\r')
                    });
                }
                b' ' | b',' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => break byte,
            }
        };
        let (start, rest) = (self.at, &self.bytes[self.at..]);
        self.at += match byte {
            b'"' => match string_length(rest) {
                Some(length) => length,
                None => {
                    self.at = self.bytes.len();
                    return Some(Err(CostError::OpenString { at: start }));
                }
            },
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                count(rest, |byte| byte == b'_' || byte.is_ascii_alphanumeric())
            }
            b'0'..=b'9' | b'-' => count(rest, |byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-')
            }),
            b'.' => count(rest, |byte| byte == b'.').min(3),
            _ => 1,
        };
        Some(Ok(start..self.at))
    }
}

/// How many bytes from the beginning are of a kind.
fn count(bytes: &[u8], is_of_kind: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|&&byte| is_of_kind(byte)).count()
}

/// The length of the string that begins here, quotes included; `None` when it has no end.
fn string_length(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(br#"""""#) {
        let mut at = 3;
        loop {
            if bytes[at..].starts_with(br#"\""""#) {
                at += 4;
            } else if bytes[at..].starts_with(br#"""""#) {
                return Some(at + 3);
            } else if at < bytes.len() {
                at += 1;
            } else {
                return None;
            }
        }
    }
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\n' | b'\r' => return None,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<u64, CostError> {
        scan(text, &CostLimits::default())
    }

    #[test]
    fn tokens_are_those_of_the_specification() {
        for (text, expected) in [
            ("", 0),
            (" ,,\u{9}\r\n", 0),
            ("# all of this { is [ a comment", 0),
            ("# ends\n{a}", 3),
            ("{ viewer { name } }", 6),
            ("...F ... on T", 5),
            (r#"f(a: "with \" and # and {", b: -1.5e+10, c: $x)"#, 13),
            (r#""""a block " with \""" inside { [""" x"#, 2),
            (r#""" "" x"#, 3),
        ] {
            assert_eq!(tokens(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn strings_end() {
        for (text, at) in [
            (r#"{ a(b: "no end"#, 7),
            ("\"no\nend\"", 0),
            (r#" """ no end "" "#, 1),
            (r#""escaped \""#, 0),
            (r#""\"#, 0),
        ] {
            assert_eq!(tokens(text), Err(CostError::OpenString { at }), "{text}");
        }
    }

    #[test]
    fn brackets_are_counted_where_they_count() {
        let limits = CostLimits {
            nesting_max: 3,
            ..CostLimits::default()
        };
        assert_eq!(scan("{[()]}{[]}", &limits), Ok(10));
        assert_eq!(scan(r#"{[("[[[[")]} # [[[["#, &limits), Ok(7));
        let refused = scan("{[({})]}", &limits);
        assert!(
            matches!(
                refused,
                Err(CostError::TooMuch {
                    what: Counted::Nesting,
                    counted: 4,
                    allowed: 3
                })
            ),
            "{refused:?}"
        );
    }
}
