//! A request in a query string. The GraphQL library's reader knows neither `operationName` nor `documentId`.

use serde::de::DeserializeOwned;
use url::form_urlencoded;

use crate::graphql::documents::asked::{Asked, Members, NoDocument};

/// Why a query string is no request.
#[derive(Debug, thiserror::Error)]
pub enum QueryStringError {
    #[error(transparent)]
    NoDocument(#[from] NoDocument),
    #[error("the parameter `{0}` comes twice")]
    Twice(&'static str),
    #[error("the parameter `{name}` is no JSON object: {source}")]
    Json {
        name: &'static str,
        source: serde_json::Error,
    },
}

/// Reads a request: `query` or `documentId`, `operationName`, `variables` and `extensions`. What is empty is absent, and
/// what is not known is left alone.
///
/// # Errors
/// [`QueryStringError`].
pub fn asked(text: &str) -> Result<Asked, QueryStringError> {
    let mut members = Members::default();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        if value.is_empty() {
            continue;
        }
        match name.as_ref() {
            "query" => put(&mut members.query, "query", value.into_owned())?,
            "documentId" => put(&mut members.document_id, "documentId", value.into_owned())?,
            "operationName" => {
                put(
                    &mut members.operation_name,
                    "operationName",
                    value.into_owned(),
                )?;
            }
            "variables" => {
                let variables = json("variables", &value)?;
                put(&mut members.variables, "variables", variables)?;
            }
            "extensions" => {
                let extensions = json("extensions", &value)?;
                put(&mut members.extensions, "extensions", extensions)?;
            }
            _ => {}
        }
    }
    Ok(members.try_into()?)
}

fn put<T>(member: &mut Option<T>, name: &'static str, value: T) -> Result<(), QueryStringError> {
    match member.replace(value) {
        None => Ok(()),
        Some(_) => Err(QueryStringError::Twice(name)),
    }
}

fn json<T: DeserializeOwned>(name: &'static str, text: &str) -> Result<T, QueryStringError> {
    serde_json::from_str(text).map_err(|source| QueryStringError::Json { name, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_fits_into_a_query_string() {
        let read = asked(
            "query=query+A($a:Int){b}%20query%20B{c}&operationName=B&variables=%7B%22a%22:1%7D&extensions=%7B%22x%22:%7B%7D%7D&other=1",
        )
        .expect("a request");
        assert_eq!(read.request.query, "query A($a:Int){b} query B{c}");
        assert_eq!(read.request.operation_name.as_deref(), Some("B"));
        assert_eq!(read.request.variables.len(), 1);
        assert!(read.request.extensions.0.contains_key("x"));
        let read = asked("documentId=abc&query=&variables=&operationName=").expect("a request");
        assert_eq!(read.document_id.as_deref(), Some("abc"));
        assert_eq!(read.request.operation_name, None);
        assert!(asked("extensions=%7B%22persistedQuery%22:%7B%7D%7D").is_ok());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (text, words) in [
            ("", "no document"),
            ("qeury={a}", "no document"),
            ("query=", "no document"),
            ("query={a}&query={b}", "comes twice"),
            ("query={a}&variables=[]", "no JSON object"),
            ("query={a}&variables={", "no JSON object"),
            ("query={a}&extensions=7", "no JSON object"),
        ] {
            let error = asked(text).expect_err("refused").to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
