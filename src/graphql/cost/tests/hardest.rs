use std::time::{Duration, Instant};

use async_graphql::Request;

use super::{cost, doubling, introspection, repeated};

/// Documents just under the limits, as hard for the library as we could make them.
fn hardest() -> Vec<(&'static str, String)> {
    let arguments: String = (0..20).map(|n| format!(" a{n}: [1 2 3]")).collect();
    let letters = |n: usize| format!("{}{n}", "x".repeat(90));
    let chain = |body: &str| {
        repeated(
            "{ viewer { ...F28 } } fragment F0 on Viewer { ",
            1,
            |_| body.into(),
            " }",
        ) + &repeated(
            "",
            28,
            |n| format!(" fragment F{} on Viewer {{ ...F{n} name }}", n + 1),
            "",
        )
    };
    vec![
        ("doubling", doubling(7)),
        (
            "equal fields",
            repeated("{ viewer {", 1_900, |_| " name".into(), "} }"),
        ),
        (
            "equal fields with arguments",
            repeated(
                "{ ",
                20,
                |_| format!(" conversions({arguments}) {{ nodes {{ id }} }}"),
                " }",
            ),
        ),
        (
            "equal fields with arguments in fragments",
            format!(
                "{{ {} }} fragment F on Query {{ a({arguments}) a({arguments}) }}",
                "...F ".repeat(10)
            ),
        ),
        (
            "misspelt names",
            repeated("{ viewer {", 1_300, |n| format!(" {}", letters(n)), "} }"),
        ),
        (
            "misspelt names in a fragment",
            format!(
                "{{ viewer {{ {} }} }} fragment F on Viewer {{ {} }}",
                "...F ".repeat(60),
                (0..30).map(letters).collect::<Vec<_>>().join(" ")
            ),
        ),
        ("a chain", chain("name")),
        ("inline fragments", {
            let inner = " name".repeat(1_800);
            format!(
                "{{ viewer {{ {}{inner}{} }} }}",
                "... on Viewer {".repeat(28),
                "}".repeat(28)
            )
        }),
        (
            "variables",
            repeated(
                "query (",
                800,
                |n| format!(" $v{n}: Int"),
                ") { viewer { name } }",
            ),
        ),
        (
            "used variables",
            repeated(
                "query ($v: Boolean!) { viewer {",
                90,
                |_| " name @include(if: $v)".into(),
                "} }",
            ),
        ),
        (
            "one large value",
            format!(
                "{{ conversions(filter: {}) {{ nodes {{ id }} }} }}",
                repeated("[", 3_900, |_| "1 ".into(), "]")
            ),
        ),
        (
            "an object",
            format!(
                "{{ conversions(filter: {}) {{ nodes {{ id }} }} }}",
                repeated("{", 1_500, |n| format!("a{n}: 1 "), "}")
            ),
        ),
        ("introspection", introspection()),
        (
            "introspection, wide",
            format!(
                "{{ __schema {{ types {{ fields {{ args {{ {} }} }} }} }} }}",
                (0..99).map(|n| format!("a{n}: name ")).collect::<String>()
            ),
        ),
        (
            "introspection, deep",
            "{ __schema { types { fields { type { fields { type { name kind } } } } } } }"
                .to_owned(),
        ),
    ]
}

#[tokio::test]
async fn what_is_let_in_is_validated_quickly() {
    let schema = crate::graphql::builder().finish();
    let mut slow = Vec::new();
    let mut refused = Vec::new();
    for (what, text) in hardest() {
        if let Err(error) = cost(&text) {
            refused.push((what, error));
            continue;
        }
        let started = Instant::now();
        schema.execute(Request::new(text)).await;
        // Many times what it takes: a test machine may be busy, and the parser is not optimised here.
        if started.elapsed() > Duration::from_secs(3) {
            slow.push((what, started.elapsed()));
        }
    }
    assert_eq!(refused, [], "these are meant to be let in");
    assert_eq!(slow, []);
}
