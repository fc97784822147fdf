//! What a document says, whatever its spaces and comments and the order of its definitions: clients print the same
//! document in their own ways.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::graphql::cost::{CostError, scan::Tokens};

/// Equal for documents of the same definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a document; `None` for a text that can't be one.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let mut parts: Vec<[u8; 32]> = definitions(text)
            .ok()?
            .iter()
            .map(|definition| definition.digest(text))
            .collect();
        parts.sort_unstable();
        let mut whole = Sha256::new();
        for part in parts {
            whole.update(part);
        }
        Some(Self(whole.finalize().into()))
    }
}

/// One operation or fragment: the places of its tokens.
#[derive(Debug)]
pub(super) struct Definition(Vec<Range<usize>>);

impl Definition {
    /// Its tokens.
    pub(super) fn tokens<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().map(|token| &text.as_bytes()[token.clone()])
    }

    /// Where it begins and ends.
    pub(super) fn range(&self) -> Range<usize> {
        let first = self.0.first().map_or(0, |token| token.start);
        first..self.0.last().map_or(first, |token| token.end)
    }

    fn digest(&self, text: &str) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for token in self.tokens(text) {
            // Lengths keep neighbours apart.
            hasher.update((token.len() as u64).to_le_bytes());
            hasher.update(token);
        }
        hasher.finalize().into()
    }
}

/// The definitions of a document: each ends with the brace that closes its selections.
///
/// # Errors
/// [`CostError::OpenString`].
pub(super) fn definitions(text: &str) -> Result<Vec<Definition>, CostError> {
    let mut found = Vec::new();
    let (mut tokens, mut nesting) = (Vec::new(), 0_usize);
    for token in Tokens::of(text) {
        let token = token?;
        let byte = text.as_bytes()[token.start];
        tokens.push(token);
        match byte {
            b'{' | b'[' | b'(' => nesting += 1,
            b'}' | b']' | b')' => {
                nesting = nesting.saturating_sub(1);
                if nesting == 0 && byte == b'}' {
                    found.push(Definition(std::mem::take(&mut tokens)));
                }
            }
            _ => {}
        }
    }
    if !tokens.is_empty() {
        found.push(Definition(tokens));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_order_make_no_difference() {
        let one = "query Q($a: X = { b: [1, 2] }) { f(a: $a) { ...P } }\nfragment P on T { x y }";
        let same = [
            "fragment P on T{x,y}query Q($a:X={b:[1 2]}){f(a:$a){...P}}",
            "# hello {\nquery Q ( $a : X = { b : [ 1 , 2 ] } ) {\n f(a: $a) { ... P }\n}\n\n fragment P on T { x # why\r y }",
        ];
        for text in same {
            assert_eq!(Fingerprint::of(text), Fingerprint::of(one), "{text}");
        }
        let other = [
            "query Q($a: X = { b: [1, 2] }) { f(a: $a) { ...P } }",
            "query Q($a: X = { b: [12] }) { f(a: $a) { ...P } }\nfragment P on T { x y }",
            "query Q($a: X = { b: [1, 2] }) { f(a: $a) { ...P } }\nfragment P on T { y x }",
            "query R($a: X = { b: [1, 2] }) { f(a: $a) { ...P } }\nfragment P on T { x y }",
            "query Q($a: X = { b: [1, 2] }) { f(a: $a) { ...P } }\nfragment P on T { x y } x",
            "query Q($a: X = { b: [1, 2] }) { f(a: $a) { ...P } }\nfragment P on T { x y } fragment P on T { x y }",
        ];
        for text in other {
            assert_ne!(Fingerprint::of(text), Fingerprint::of(one), "{text}");
        }
        assert_eq!(Fingerprint::of("{ a(b: \"no end"), None);
        assert_ne!(
            Fingerprint::of(r#"{ a(b: "x y") }"#),
            Fingerprint::of(r#"{ a(b: "xy") }"#)
        );
    }

    #[test]
    fn definitions_are_found() {
        let text = "query Q($a: X = { b: 1 }) @d(x: {}) { a } { b } fragment F on T { c { d } }";
        let found: Vec<&str> = definitions(text)
            .expect("its strings end")
            .iter()
            .map(|definition| &text[definition.range()])
            .collect();
        assert_eq!(
            found,
            [
                "query Q($a: X = { b: 1 }) @d(x: {}) { a }",
                "{ b }",
                "fragment F on T { c { d } }"
            ]
        );
    }
}
