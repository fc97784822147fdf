//! The admission of queries: what is counted before the GraphQL library validates anything.

use async_graphql::{Variables, parser::parse_query};
use orfeas::graphql::{
    cost::{CostLimits, check, scan::scan, shape::Shape},
    sdl,
};

use super::{Target, files, plain};

const WORDS: [&[u8]; 24] = [
    b"{",
    b"}",
    b"(",
    b")",
    b"[",
    b"]",
    b"...",
    b"... on ",
    b"fragment F on ",
    b"...F ",
    b"query ",
    b"mutation ",
    b"subscription ",
    b"@include(if: true) ",
    b"$v: ",
    b"\"\"\"",
    b"\"",
    b"\\u",
    b"#",
    b"first: 100 ",
    b"__schema ",
    b"nodes { ",
    b"a: ",
    b"Conversion ",
];

#[test]
fn any_document_is_counted_or_refused() {
    let shape = Shape::of(&sdl());
    let limits = CostLimits::default();
    let mut seeds = files("web/src/api/documents", ".graphql");
    seeds.extend(SEEDS.map(|text| text.as_bytes().to_vec()));
    let target = Target {
        name: "documents",
        seeds,
        words: &WORDS,
    };
    target.run(|input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return Ok("no text".into());
        };
        if let Err(error) = scan(text, &limits) {
            return Ok(plain(error));
        }
        let Ok(document) = parse_query(text) else {
            return Ok("no document".into());
        };
        match check(&document, None, &Variables::default(), &shape, &limits) {
            Err(error) => Ok(plain(error)),
            Ok(cost)
                if cost.selections > limits.selections_max
                    || cost.depth > limits.depth_max
                    || cost.complexity > limits.complexity_max =>
            {
                Err(format!("more was let in than is allowed: {cost:?}"))
            }
            Ok(cost) => Ok(format!(
                "let in, {} levels{}",
                cost.depth,
                if cost.introspects {
                    ", introspects"
                } else {
                    ""
                }
            )),
        }
    });
}

const SEEDS: [&str; 5] = [
    "{ viewer { name } }",
    "query Q($id: ID!, $n: Int = 3) { conversion(id: $id) { id ...F } conversions(first: $n) { nodes { ...F } pageInfo { hasNextPage } } } fragment F on Conversion { status options { formats } batch { id conversions { nodes { id } } } }",
    "mutation M($input: SubmitConversionInput!) { submitConversion(input: $input) { conversion { id } } }",
    "subscription { conversionProgress(id: \"cnv_1\", after: 3) { sequence status @skip(if: false) } }",
    "{ __schema { types { name fields { name type { ofType { ofType { name } } } } } } a: queue { depth } }",
];
