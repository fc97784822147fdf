use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use async_graphql::{Variables, parser::parse_query};
use serde_json::{Value, json};

use super::{scan::scan, *};

mod hardest;

fn shape() -> &'static Shape {
    static SHAPE: std::sync::OnceLock<Shape> = std::sync::OnceLock::new();
    SHAPE.get_or_init(|| Shape::of(&crate::graphql::sdl()))
}

fn cost_with(text: &str, operation: Option<&str>, variables: Value) -> Result<Cost, CostError> {
    let limits = CostLimits::default();
    scan(text, &limits)?;
    let document = parse_query(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    check(
        &document,
        operation,
        &Variables::from_json(variables),
        shape(),
        &limits,
    )
}

fn cost(text: &str) -> Result<Cost, CostError> {
    cost_with(text, None, json!({}))
}

/// What was too much, and how much of it there was.
fn refusal(text: &str) -> (Counted, u64) {
    match cost(text) {
        Err(CostError::TooMuch {
            what,
            counted,
            allowed,
        }) => {
            assert!(counted > allowed, "{what:?}");
            (what, counted)
        }
        other => panic!("{other:?}"),
    }
}

/// Fragments each of which spreads the one before twice.
fn doubling(levels: usize) -> String {
    let mut text = "{ viewer { ...F".to_owned();
    write!(text, "{levels} }} }} fragment F0 on Viewer {{ name }}").expect("memory");
    for level in 1..=levels {
        let before = level - 1;
        write!(
            text,
            " fragment F{level} on Viewer {{ ...F{before} ...F{before} }}"
        )
        .expect("memory");
    }
    text
}

/// `before`, then each number's text, then `after`.
fn repeated(before: &str, count: usize, each: impl Fn(usize) -> String, after: &str) -> String {
    let middle: String = (0..count).map(each).collect();
    format!("{before}{middle}{after}")
}

/// Walked without memory these documents take minutes; counted once they take half a millisecond. In between lies what a
/// busy machine may add.
const QUICK: Duration = Duration::from_secs(1);

#[test]
fn doubling_fragments_are_refused_at_once() {
    for levels in [12, 20, 30, 45] {
        let text = doubling(levels);
        let started = Instant::now();
        let (what, counted) = refusal(&text);
        let took = started.elapsed();
        assert_eq!(what, Counted::Selections, "{levels}");
        assert!(counted >= 1 << levels, "{levels}: {counted}");
        assert!(took < QUICK, "{levels}: {took:?}");
    }
    // More fragments than are allowed at all.
    let started = Instant::now();
    assert_eq!(refusal(&doubling(60)), (Counted::Fragments, 61));
    assert!(started.elapsed() < QUICK, "{:?}", started.elapsed());
    let limits = CostLimits {
        fragments_max: u64::MAX,
        ..CostLimits::default()
    };
    let document = parse_query(doubling(90)).expect("it is well formed");
    let started = Instant::now();
    let refused = check(&document, None, &Variables::default(), shape(), &limits);
    assert!(started.elapsed() < QUICK, "{:?}", started.elapsed());
    let expected = CostError::TooMuch {
        what: Counted::Selections,
        counted: u64::MAX,
        allowed: limits.selections_max,
    };
    assert_eq!(refused, Err(expected), "sums saturate");
}

#[test]
fn each_thing_has_its_limit() {
    let name = |number: usize| format!(" a{number}:models");
    let cases = [
        (Counted::DocumentBytes, format!("{{ viewer {{ name }} }} #{}", "x".repeat(200 << 10))),
        (Counted::Tokens, repeated("{", 50_000, |_| " a".into(), "}")),
        (Counted::Tokens, repeated("{", 10_000, name, "}")),
        (Counted::NameBytes, format!("{{ {} }}", "x".repeat(5_000))),
        (Counted::Nesting, format!("{{ a(b: {}", "[".repeat(100_000))),
        (Counted::Nesting, "{ a ".repeat(30_000)),
        (Counted::Aliases, repeated("{ conversions { nodes {", 101, |n| format!(" a{n}: id"), "} } }")),
        (Counted::RootFields, repeated("{", 21, name, "}")),
        (Counted::Directives, repeated("{ viewer", 101, |_| " @include(if: true)".into(), " { name } }")),
        (Counted::Arguments, repeated("{ conversions(", 21, |n| format!(" a{n}: 1"), ") { nodes { id } } }")),
        (Counted::Fragments, repeated("{ viewer { name } }", 51, |n| format!(" fragment F{n} on Viewer {{ name }}"), "")),
        (Counted::Operations, repeated("", 21, |n| format!(" query Q{n} {{ viewer {{ name }} }}"), "")),
        (Counted::Selections, repeated("{ viewer {", 2_100, |_| " name".into(), "} }")),
        (Counted::Complexity, "{ conversions(first: 100) { nodes { batch { conversions { outputs { url bytes } } } } } }".into()),
        (
            Counted::Introspection,
            "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }".into(),
        ),
    ];
    for (what, text) in cases {
        let started = Instant::now();
        let (found, _) = refusal(&text);
        assert_eq!(found, what, "{:.200}", text);
        assert!(
            started.elapsed() < QUICK,
            "{what:?}: {:?}",
            started.elapsed()
        );
    }
    let deep = format!(
        "{{ node(id: 1) {}{}",
        "{ ... on Conversion { batch { conversions ".repeat(7),
        "{ id }".to_owned() + &"} } }".repeat(7) + "}"
    );
    assert_eq!(refusal(&deep).0, Counted::Complexity);
    let deep = format!("{{ viewer {} name {}", "{ a ".repeat(16), "}".repeat(17));
    assert_eq!(refusal(&deep), (Counted::Depth, 17));
    let levels = format!("{{ {} id {} }}", "... { ".repeat(40), "} ".repeat(40));
    assert_eq!(refusal(&levels), (Counted::Levels, 41));
}

#[test]
fn values_are_counted_as_often_as_they_are_written_out() {
    let list = repeated("[", 900, |_| "1 ".into(), "]");
    let text = format!(
        "{{ ...F ...F ...F ...F }} fragment F on Query {{ conversions(filter: {list}) {{ nodes {{ id }} }} }}"
    );
    assert_eq!(refusal(&text).0, Counted::Values);
    // A picture in a variable may be used where it belongs, and not again and again.
    let picture = json!({ "input": { "image": { "base64": "A".repeat(3 << 20) } } });
    let once = "mutation ($input: SubmitConversionInput!) { submitConversion(input: $input) { conversion { id } } }";
    cost_with(once, None, picture.clone()).expect("one picture");
    let often = repeated(
        "mutation ($input: SubmitConversionInput!) {",
        10,
        |n| format!(" a{n}: submitConversion(input: $input) {{ conversion {{ id }} }}"),
        "}",
    );
    let refused = cost_with(&often, None, picture);
    assert!(
        matches!(
            refused,
            Err(CostError::TooMuch {
                what: Counted::RepeatedBytes,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn circles_end() {
    for text in [
        "{ ...A } fragment A on Query { ...A }",
        "{ ...A } fragment A on Query { viewer { name } ...B } fragment B on Query { ...C } fragment C on Query { ...A }",
        "{ viewer { name } } fragment A on Query { ...B } fragment B on Query { ...A }",
    ] {
        assert!(matches!(cost(text), Err(CostError::Cycle { .. })), "{text}");
    }
}

#[test]
fn what_is_not_executed_is_validated_and_so_counts() {
    let unused = format!(
        "{{ viewer {{ name }} }} query Other {{ models {{ name }} }} {}",
        ""
    );
    assert!(
        parse_query(unused).is_err(),
        "an anonymous operation stands alone"
    );
    // A doubling fragment that nothing spreads.
    let unused = doubling(30).replacen("...F30", "name", 1);
    assert_eq!(refusal(&unused).0, Counted::Selections);
    // Page sizes count for the operation that is chosen.
    let two = "query Small { viewer { name } }
        query Large { conversions(first: 100) { nodes { batch { conversions { outputs { url bytes } } } } } }";
    assert_eq!(
        cost_with(two, Some("Small"), json!({}))
            .expect("small")
            .complexity,
        2
    );
    assert!(cost_with(two, Some("Large"), json!({})).is_err());
    assert!(
        cost_with(two, Some("None"), json!({})).is_err(),
        "an unknown operation hides nothing"
    );
}

#[test]
fn pages_count_by_what_is_asked() {
    let nodes = "{ nodes { id } }";
    let complexity = |arguments: &str| {
        let text = format!("query ($n: Int = 7, $m: Int) {{ conversions{arguments} {nodes} }}");
        cost_with(&text, None, json!({ "m": 30 }))
            .expect("small")
            .complexity
    };
    // The connection, and for each item `nodes` and `id`.
    for (arguments, items) in [
        ("", 20),
        ("(first: 5)", 5),
        ("(last: 5)", 5),
        ("(first: $n)", 7),
        ("(first: $m)", 30),
        ("(first: $none)", 20),
        ("(first: 1000000)", 100),
        ("(first: -1)", 0),
        ("(first: null)", 20),
    ] {
        assert_eq!(complexity(arguments), 1 + items * 2, "{arguments}");
    }
    let fragment = "query { ...P } fragment P on Query { conversions(first: 3) { ...N } } fragment N on ConversionConnection { nodes { id } }";
    assert_eq!(cost(fragment).expect("small").complexity, 1 + 3 * 2);
    let list = "{ models { name } }";
    assert_eq!(cost(list).expect("small").complexity, 1 + 10);
}

#[test]
fn questions_about_the_schema_are_seen() {
    for (text, introspects) in [
        ("{ viewer { __typename name } __typename }", false),
        ("{ __schema { queryType { name } } }", true),
        ("{ a: __type(name: \"Query\") { name } }", true),
        (
            "{ viewer { name } ...A } fragment A on Query { ...B } fragment B on Query { ... { __schema { types { name } } } }",
            true,
        ),
        (
            "{ viewer { name } } fragment Unused on Query { __schema { types { name } } }",
            true,
        ),
    ] {
        assert_eq!(
            cost(text).expect("small").introspects,
            introspects,
            "{text}"
        );
    }
}

/// What tools ask to learn the whole schema, nine wrappers deep.
fn introspection() -> String {
    let reference = format!(
        "kind name {}{}",
        "ofType { kind name ".repeat(9),
        "}".repeat(9)
    );
    format!(
        "query IntrospectionQuery {{ __schema {{ queryType {{ name }} mutationType {{ name }} subscriptionType {{ name }}
            types {{ ...FullType }} directives {{ name description locations args {{ ...InputValue }} }} }} }}
        fragment FullType on __Type {{ kind name description specifiedByURL
            fields(includeDeprecated: true) {{ name description args(includeDeprecated: true) {{ ...InputValue }} type {{ ...TypeRef }}
                isDeprecated deprecationReason }}
            inputFields(includeDeprecated: true) {{ ...InputValue }} interfaces {{ ...TypeRef }}
            enumValues(includeDeprecated: true) {{ name description isDeprecated deprecationReason }} possibleTypes {{ ...TypeRef }} }}
        fragment InputValue on __InputValue {{ name description type {{ ...TypeRef }} defaultValue isDeprecated deprecationReason }}
        fragment TypeRef on __Type {{ {reference} }}"
    )
}

/// The strings of a source file.
fn literals(source: &str) -> Vec<String> {
    let parts = source.split('"').skip(1).step_by(2);
    // Formatted ones have doubled braces.
    parts
        .flat_map(|text| [text.to_owned(), text.replace("{{", "{").replace("}}", "}")])
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("the sources are here") {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(std::fs::read_to_string(path).expect("a source is text"));
        }
    }
}

#[test]
fn what_tools_and_our_own_programs_ask_is_let_in() {
    let tools = cost(&introspection()).expect("the introspection query of every tool");
    assert!(tools.introspects);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src/cli", "tests/it"] {
        sources(&root.join(folder), &mut files);
    }
    let mut accepted = 0;
    for text in files.iter().flat_map(|file| literals(file)) {
        if parse_query(&text).is_err() {
            continue;
        }
        match cost(&text) {
            Ok(_) => accepted += 1,
            // Those that tests have refused on purpose.
            Err(error) => assert!(
                text.contains("c: conversions(first: 100)") || text.contains("{ ...A }"),
                "{error}: {text}"
            ),
        }
    }
    assert!(accepted > 40, "only {accepted} documents were found");
}

#[test]
fn a_full_page_with_everything_is_let_in() {
    let sdl = crate::graphql::sdl();
    let scalars = "attempts cancelRequested createdAt etaSeconds expiresAt finishedAt id model owner priority progress
        queuePosition retryOf sequence stage startedAt status";
    for field in scalars.split_whitespace() {
        assert!(sdl.contains(&format!("{field}: ")), "{field}");
    }
    let asset = "{ bytes createdAt height id mediaType sha256 url width }";
    let text = format!(
        "{{ conversions(first: 100) {{ pageInfo {{ endCursor hasNextPage }} nodes {{ {scalars}
            batch {{ id size progress counts {{ canceled failed queued running succeeded }} }} error {{ code message retryable }}
            options {{ formats guidance removeBackground resolution seed sizeMm steps targetTriangles texture }}
            outputs {{ bytes format sha256 triangles url vertices }} preview {asset} source {asset}
            quality {{ boundingBox components manifold surfaceArea volume warnings watertight }}
            timings {{ encodeMs exportMs gpuBatchSize meshMs prepareMs queuedMs reconstructMs textureMs }} }} }} }}"
    );
    let cost = cost(&text).expect("a full page");
    assert!(
        cost.complexity > 10_000,
        "it is most of what is allowed: {cost:?}"
    );
}
