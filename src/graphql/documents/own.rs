//! The documents of the server's own pages, which always count as trusted: taken from where the pages' code is made of
//! them, so that the two can't differ.

use std::collections::{BTreeMap, BTreeSet};

use super::fingerprint::{Definition, definitions};

/// The studio's documents.
const STUDIO: [(&str, &str); 3] = [
    (
        "conversions.graphql",
        include_str!("../../../web/src/api/documents/conversions.graphql"),
    ),
    (
        "keys.graphql",
        include_str!("../../../web/src/api/documents/keys.graphql"),
    ),
    (
        "server.graphql",
        include_str!("../../../web/src/api/documents/server.graphql"),
    ),
];
/// What the console asks before it lets an admin in.
const CONSOLE: &str = "{ viewer { permissions } }";

/// Each operation of the pages, as they send it: with the fragments that it needs and no others.
///
/// # Panics
/// Never: the documents are part of the program, and their strings end.
#[must_use]
pub fn documents() -> Vec<String> {
    let parsed: Vec<(&str, Vec<Definition>)> = STUDIO
        .iter()
        .map(|(_, text)| {
            let found = definitions(text).expect("the documents' strings end");
            (*text, found)
        })
        .collect();
    let mut fragments = BTreeMap::new();
    let mut operations = Vec::new();
    for (text, definition) in parsed
        .iter()
        .flat_map(|(text, found)| found.iter().map(|definition| (*text, definition)))
    {
        let tokens: Vec<&[u8]> = definition.tokens(text).collect();
        let part = Part {
            text: &text[definition.range()],
            spreads: spreads(&tokens),
        };
        match tokens[..] {
            [b"fragment", name, ..] => {
                fragments.insert(name.to_vec(), part);
            }
            _ => operations.push(part),
        }
    }
    let whole = operations
        .iter()
        .map(|operation| with_fragments(operation, &fragments));
    whole.chain([CONSOLE.to_owned()]).collect()
}

struct Part<'a> {
    text: &'a str,
    /// The fragments that it spreads.
    spreads: Vec<Vec<u8>>,
}

fn spreads(tokens: &[&[u8]]) -> Vec<Vec<u8>> {
    let pairs = tokens.windows(2);
    pairs
        .filter(|pair| pair[0] == b"..." && pair[1] != b"on" && pair[1].first() != Some(&b'{'))
        .map(|pair| pair[1].to_vec())
        .collect()
}

fn with_fragments(operation: &Part<'_>, fragments: &BTreeMap<Vec<u8>, Part<'_>>) -> String {
    let mut text = operation.text.to_owned();
    let mut taken = BTreeSet::new();
    let mut wanted = operation.spreads.clone();
    while let Some(name) = wanted.pop() {
        if let Some(fragment) = fragments.get(&name)
            && taken.insert(name)
        {
            text.push('\n');
            text.push_str(fragment.text);
            wanted.extend(fragment.spreads.iter().cloned());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::graphql::documents::trusted::check;

    #[test]
    fn no_file_of_the_pages_is_forgotten() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/src/api/documents");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("it is in the repository")
            .map(|entry| entry.expect("readable").file_name().display().to_string())
            .collect();
        files.sort();
        assert_eq!(files, STUDIO.map(|(name, _)| name.to_owned()));
        let console = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/src/console/main.ts");
        let text = std::fs::read_to_string(console).expect("it is in the repository");
        assert!(text.contains(&format!("\"{CONSOLE}\"")));
    }

    #[tokio::test]
    async fn each_is_valid_by_itself() {
        let documents = documents();
        assert!(documents.len() > 15, "{documents:#?}");
        for text in &documents {
            let found = check("the studio's", text).await;
            assert!(found.is_ok(), "{text}: {found:?}");
        }
        let submit = documents
            .iter()
            .find(|text| text.starts_with("mutation SubmitBatch"))
            .expect("the studio submits");
        assert_eq!(submit.matches("fragment ").count(), 1, "{submit}");
    }
}
