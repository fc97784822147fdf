//! The covered components of a request: their identifiers, and their values in it.

use axum::http::{HeaderName, header};
use sfv::{BareItem, Item, ItemSerializer};
use url::form_urlencoded;

use super::{Message, error::SignatureError};

/// A part of a request that a signature can cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Component {
    Method,
    Path,
    Query,
    TargetUri,
    RequestTarget,
    Authority,
    Scheme,
    /// One parameter of the query, by its name as the RFC encodes it.
    QueryParameter(String),
    Field(HeaderName),
}

impl Component {
    /// Reads an identifier: a string, with parameters.
    pub(super) fn parse(item: &Item) -> Result<Self, SignatureError> {
        let unknown = || SignatureError::UnknownComponent {
            component: identifier(item),
        };
        let BareItem::String(name) = &item.bare_item else {
            return Err(unknown());
        };
        let name = name.as_str();
        if name == "@query-param" {
            return match (item.params.get("name"), item.params.len()) {
                (Some(BareItem::String(name)), 1) => {
                    Ok(Self::QueryParameter(name.as_str().to_owned()))
                }
                _ => Err(unknown()),
            };
        }
        // `sf`, `bs`, `key`, `req`, `tr`: each is another way to read a field, and another place to disagree on.
        if !item.params.is_empty() {
            return Err(unknown());
        }
        match name {
            "@method" => Ok(Self::Method),
            "@path" => Ok(Self::Path),
            "@query" => Ok(Self::Query),
            "@target-uri" => Ok(Self::TargetUri),
            "@request-target" => Ok(Self::RequestTarget),
            "@authority" => Ok(Self::Authority),
            "@scheme" => Ok(Self::Scheme),
            // A signature that covers itself can't be made; the other field is covered by its parameters already.
            "signature" | "signature-input" => Err(unknown()),
            _ => HeaderName::from_lowercase(name.as_bytes())
                .map(Self::Field)
                .map_err(|_| unknown()),
        }
    }

    /// The component's value in a request, without the line's end.
    pub(super) fn value(&self, message: &Message<'_>) -> Result<Vec<u8>, SignatureError> {
        let path = match message.uri.path() {
            "" => "/",
            path => path,
        };
        let query = message.uri.query();
        let with_query = |mut text: String| {
            if let Some(query) = query {
                text.push('?');
                text.push_str(query);
            }
            text
        };
        let text = match self {
            Self::Method => message.method.as_str().to_owned(),
            Self::Path => path.to_owned(),
            // The RFC's rule for a request without a query: the question mark alone.
            Self::Query => format!("?{}", query.unwrap_or_default()),
            Self::TargetUri => {
                let base = message.public_url.ok_or(SignatureError::NoPublicUrl)?;
                let below = base.path().trim_end_matches('/');
                with_query(format!(
                    "{}{below}{path}",
                    base.origin().ascii_serialization()
                ))
            }
            Self::RequestTarget => with_query(path.to_owned()),
            Self::Authority => authority(message)?,
            // The server itself speaks plain HTTP; what stands before it is what the public URL tells.
            Self::Scheme => message
                .public_url
                .map_or("http", |url| url.scheme())
                .to_owned(),
            Self::QueryParameter(name) => query_parameter(name, query.unwrap_or_default())?,
            Self::Field(name) => return field(name, message),
        };
        Ok(text.into_bytes())
    }
}

/// How the identifier of a component is written: the start of its line in the base.
pub(super) fn identifier(item: &Item) -> String {
    ItemSerializer::new()
        .bare_item(&item.bare_item)
        .parameters(&item.params)
        .finish()
}

/// The host that the client asked, in lower case and without the port that its scheme implies.
fn authority(message: &Message<'_>) -> Result<String, SignatureError> {
    let from_host = || {
        single(&header::HOST, message)
            .ok()
            .and_then(|value| std::str::from_utf8(value).ok())
    };
    let authority = message
        .uri
        .authority()
        .map(|authority| authority.as_str())
        .or_else(from_host)
        .ok_or(SignatureError::NoAuthority)?
        .to_ascii_lowercase();
    let default_port = match message.public_url.map_or("http", |url| url.scheme()) {
        "https" => ":443",
        _ => ":80",
    };
    let host = authority.strip_suffix(default_port).unwrap_or(&authority);
    Ok(host.to_owned())
}

fn query_parameter(name: &str, query: &str) -> Result<String, SignatureError> {
    let values: Vec<String> = form_urlencoded::parse(query.as_bytes())
        .filter(|(known, _)| form_encoded(known) == name)
        .map(|(_, value)| form_encoded(&value))
        .collect();
    match <[String; 1]>::try_from(values) {
        Ok([value]) => Ok(value),
        Err(values) => Err(SignatureError::QueryParameter {
            name: name.to_owned(),
            found: values.len(),
        }),
    }
}

/// The RFC's encoding of names and values: that of forms, with `%20` for a space.
fn form_encoded(text: &str) -> String {
    // A plus sign itself is written as `%2B`, so each `+` that is left stands for a space.
    form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

fn field(name: &HeaderName, message: &Message<'_>) -> Result<Vec<u8>, SignatureError> {
    single(name, message).map(|value| value.trim_ascii().to_vec())
}

/// The value of a field that was sent once. The RFC joins several lines by commas; we refuse them, because a proxy may
/// join or drop lines, and our own handlers read the first one alone: what was signed must be what is read.
fn single<'a>(name: &HeaderName, message: &Message<'a>) -> Result<&'a [u8], SignatureError> {
    let mut lines = message.headers.get_all(name).iter();
    match (lines.next(), lines.count()) {
        (None, _) => Err(SignatureError::MissingField {
            field: name.as_str().to_owned(),
        }),
        (Some(value), 0) => Ok(value.as_bytes()),
        (Some(_), more) => Err(SignatureError::DuplicatedField {
            field: name.as_str().to_owned(),
            lines: more + 1,
        }),
    }
}
