//! Logs: lines of text for people, or one flat JSON object a line for programs.

use std::fmt;

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::{Event, Subscriber, field::Field, subscriber::set_global_default};
use tracing_subscriber::{
    EnvFilter, Layer,
    field::{MakeExt, Visit},
    filter::{FilterExt, LevelFilter, ParseError, filter_fn},
    fmt::{
        FmtContext, FormatEvent, FormattedFields, MakeWriter,
        format::{self, JsonFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
};

use super::{
    TelemetryError,
    traces::{self, Traces},
};

/// Fields for the exporter alone.
const EXPORTERS: &str = "otel.";

/// Starts logging to standard error: `filter` in `EnvFilter`'s syntax, as text or as one JSON object a line; and sending
/// `traces`, if there are any.
///
/// # Errors
/// [`TelemetryError::Filter`] and [`TelemetryError::Subscriber`].
pub fn init(filter: &str, json: bool, traces: Option<&Traces>) -> Result<(), TelemetryError> {
    let subscriber = tracing_subscriber::registry()
        .with(lines(filter, json, std::io::stderr)?)
        .with(traces.map(Traces::layer));
    // Not `try_init`, which would take in what crates say through `log`, too: each question whether such a line is wanted
    // has the registry leave out the next span, if the answer is no.
    Ok(set_global_default(subscriber)?)
}

fn lines<S, W>(filter: &str, json: bool, writer: W) -> Result<impl Layer<S> + use<S, W>, ParseError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // However little is logged: a line that is must say which request it is about, and that is what spans are for.
    let spans = filter_fn(|metadata| metadata.is_span() && traces::is_ours(metadata));
    let wanted = EnvFilter::try_new(filter)?.or(spans.with_max_level_hint(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = if json {
        lines
            .fmt_fields(JsonFields::new())
            .event_format(Flat)
            .boxed()
    } else {
        lines
            .compact()
            .fmt_fields(format::debug_fn(write_field).delimited(" "))
            .boxed()
    };
    Ok(lines.with_filter(wanted))
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        name if name.starts_with(EXPORTERS) => Ok(()),
        name => write!(writer, "{name}={value:?}"),
    }
}

/// One object without others in it: what log stores find without being told how. The fields of the spans around an event
/// are its own; where two have the same name, the inner one's counts.
struct Flat;

impl<S> FormatEvent<S, JsonFields> for Flat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        let now = OffsetDateTime::now_utc().format(&Rfc3339);
        let metadata = event.metadata();
        line.insert("timestamp".into(), now.map_err(|_| fmt::Error)?.into());
        line.insert("level".into(), metadata.level().as_str().into());
        line.insert("target".into(), metadata.target().into());
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            line.insert("span".into(), span.name().into());
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>();
            // What that formatter writes is an object, or nothing where there are no fields.
            let fields = fields.and_then(|fields| serde_json::from_str::<Map<_, _>>(fields).ok());
            line.extend(fields.unwrap_or_default());
        }
        event.record(&mut Fields(&mut line));
        line.retain(|name, _| !name.starts_with(EXPORTERS));
        let line = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

/// Takes an event's fields.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing::{info, info_span, subscriber::with_default, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of an attempt that two lines are logged of, where only warnings are wanted.
    fn written(json: bool) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = lines("warn", json, move || writer.clone()).unwrap();
        with_default(tracing_subscriber::registry().with(lines), || {
            let request = info_span!(
                "request",
                request.id = "r1",
                trace.id = tracing::field::Empty
            );
            request.record("trace.id", "t1");
            request.in_scope(|| {
                let attempt = info_span!("attempt", attempt = 2, otel.kind = "consumer");
                attempt.in_scope(|| {
                    info!("Not wanted");
                    warn!(seconds = 1.5, path = ?"a b", "Conversion {} failed", 7);
                });
            });
        });
        let text = kept.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_line_for_programs_is_one_flat_object() {
        let text = written(true);
        let line: Value = serde_json::from_str(&text).expect("one line, and no other");
        let of = |name: &str| line[name].clone();
        assert_eq!(of("message"), "Conversion 7 failed");
        assert_eq!((of("level"), of("span")), ("WARN".into(), "attempt".into()));
        assert_eq!(
            (of("request.id"), of("trace.id")),
            ("r1".into(), "t1".into())
        );
        assert_eq!((of("attempt"), of("seconds")), (2.into(), 1.5.into()));
        assert_eq!(of("path"), "\"a b\"");
        assert_eq!(of("otel.kind"), Value::Null);
        let time = line["timestamp"].as_str().expect("a text");
        OffsetDateTime::parse(time, &Rfc3339).expect("it is a time");
    }

    #[test]
    fn a_line_for_people_has_the_request_whatever_is_logged() {
        let text = written(false);
        assert!(
            text.contains("Conversion 7 failed") && !text.contains("Not wanted"),
            "{text}"
        );
        assert!(text.contains("request.id") && text.contains("r1"), "{text}");
        assert!(!text.contains("otel"), "{text}");
    }
}
