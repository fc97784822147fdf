//! How many values a JSON text holds, counted while it comes in: a parser makes 30 bytes of memory or more of each, so
//! that a body of empty lists would cost many times its own size.

/// Values and names of a request. A batch of 256 pictures in base64 has about a thousand.
pub(super) const VALUES_MAX: u64 = 50_000;

/// A text read so far.
#[derive(Debug, Default)]
pub(super) struct Structure {
    values: u64,
    in_string: bool,
    is_escaped: bool,
}

impl Structure {
    /// Reads on; whether there are too many values by now.
    pub(super) fn is_excessive(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if self.is_escaped {
                self.is_escaped = false;
            } else if self.in_string {
                self.is_escaped = *byte == b'\\';
                self.in_string = *byte != b'"';
            } else {
                self.in_string = *byte == b'"';
                // One before or after each value; brackets count as their own.
                self.values += u64::from(matches!(byte, b',' | b':' | b'[' | b'{'));
            }
        }
        self.values > VALUES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_not_looked_into() {
        let mut structure = Structure::default();
        let text = br#"{"a,[{:\"": ["\\", 1], "b": {}}"#;
        for part in text.chunks(3) {
            assert!(!structure.is_excessive(part));
        }
        // Two braces, two colons, one bracket, two commas.
        assert_eq!(structure.values, 7);
        assert!(structure.is_excessive(&vec![b'['; 50_000]));
    }
}
