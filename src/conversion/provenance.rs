//! Where a conversion comes from: the request that submitted it, and the trace that this request was part of.

/// Request ids are cut to this length, wherever they are written down.
pub const REQUEST_ID_CHARS_MAX: usize = 128;

/// What W3C lets a `tracestate` weigh at least, and we at most.
const STATE_BYTES_MAX: usize = 512;

/// What a conversion's row remembers of the request that submitted it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    pub request_id: Option<String>,
    pub trace: Option<TraceContext>,
}

/// A place in a trace, as W3C Trace Context writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Of version 00, whatever version it came in.
    parent: String,
    state: Option<String>,
}

impl TraceContext {
    /// The place that the values of the headers `traceparent` and `tracestate` name; `None` where the first is none. A
    /// `tracestate` that can't be is left out.
    #[must_use]
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let parent = parent.trim();
        let mut parts = parent.splitn(5, '-');
        let mut hex = |length: usize| parts.next().filter(|part| is_hex(part, length));
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let has_more = parts.next().is_some();
        let is_zero = |id: &str| id.bytes().all(|digit| digit == b'0');
        // Later versions may say more behind what is known; this one may not, and ff is none.
        if version == "ff" || (version == "00" && has_more) || is_zero(trace) || is_zero(span) {
            return None;
        }
        let is_fit = |state: &&str| {
            (1..=STATE_BYTES_MAX).contains(&state.len())
                && state.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        Some(Self {
            parent: format!("00-{trace}-{span}-{flags}"),
            state: state.map(str::trim).filter(is_fit).map(str::to_owned),
        })
    }

    /// The value of the header `traceparent`.
    #[must_use]
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// The value of the header `tracestate`.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The trace's id: 32 hex digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.parent[3..35]
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    // Lower case alone, as the specification has it.
    text.len() == length
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_place_in_a_trace_is_read_as_the_specification_has_it() {
        let text = format!("00-{TRACE}-{SPAN}-01");
        let found = TraceContext::parse(&text, Some("vendor=a:1,other=2")).expect("it is one");
        assert_eq!(found.parent(), text);
        assert_eq!(found.trace_id(), TRACE);
        assert_eq!(found.state(), Some("vendor=a:1,other=2"));

        let later = format!("01-{TRACE}-{SPAN}-01-whatever-follows");
        let later = TraceContext::parse(&later, None).expect("a later version is read");
        assert_eq!(later.parent(), text, "and written as the one we know");
    }

    #[test]
    fn what_is_none_is_not_taken_for_one() {
        let zeros = |count| "0".repeat(count);
        for text in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", zeros(32)),
            format!("00-{TRACE}-{}-01", zeros(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}0-{SPAN}-01"),
            "00-äöü".into(),
        ] {
            assert_eq!(TraceContext::parse(&text, None), None, "{text}");
        }
        let text = format!("00-{TRACE}-{SPAN}-00");
        for state in ["", "  ", "a=\u{1}", &"a".repeat(513)] {
            let found = TraceContext::parse(&text, Some(state)).expect("its parent is one");
            assert_eq!(found.state(), None, "{state}");
        }
    }
}
