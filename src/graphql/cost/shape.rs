//! How many objects a field of the schema may answer with.

use std::collections::HashMap;

use async_graphql::parser::{
    parse_schema,
    types::{BaseType, FieldDefinition, TypeKind, TypeSystemDefinition},
};

/// A page for which no length was asked; see [`crate::graphql::query::PAGE_DEFAULT`].
pub(super) const PAGE_DEFAULT: u64 = crate::graphql::query::PAGE_DEFAULT as u64;
/// A longer page is refused when it is resolved; see [`crate::graphql::query::PAGE_MAX`].
pub(super) const PAGE_MAX: u64 = crate::graphql::query::PAGE_MAX as u64;
/// A list without pages: the files, warnings or devices of one thing, the conversions of a usual batch.
const LIST_ITEMS: u64 = 10;

/// A field, the type that it leads to, and about how many of it this schema has.
type Known = (&'static str, &'static str, u64);

/// The types of introspection, which a schema's text leaves out.
const INTROSPECTION: [(&str, &[Known]); 6] = [
    (
        "__Schema",
        &[
            ("types", "__Type", 64),
            ("directives", "__Directive", 8),
            ("queryType", "__Type", 1),
            ("mutationType", "__Type", 1),
            ("subscriptionType", "__Type", 1),
        ],
    ),
    (
        "__Type",
        &[
            ("fields", "__Field", 8),
            ("interfaces", "__Type", 2),
            ("possibleTypes", "__Type", 2),
            ("enumValues", "__EnumValue", 4),
            ("inputFields", "__InputValue", 4),
            ("ofType", "__Type", 1),
        ],
    ),
    (
        "__Field",
        &[("args", "__InputValue", 2), ("type", "__Type", 1)],
    ),
    ("__InputValue", &[("type", "__Type", 1)]),
    ("__EnumValue", &[]),
    ("__Directive", &[("args", "__InputValue", 2)]),
];

/// How many objects a field answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Items {
    /// This many at most, as a rule.
    Usual(u64),
    /// As many as `first` or `last` say.
    Page,
}

/// A field with fields of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) to: String,
    pub(super) items: Items,
}

/// The objects of a schema, and where their fields lead.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    types: HashMap<String, HashMap<String, Step>>,
}

impl Shape {
    /// The shape of a schema, read from its text.
    ///
    /// # Panics
    /// When the text is no schema: it is the export of one.
    #[must_use]
    pub fn of(sdl: &str) -> Self {
        let document = parse_schema(sdl).expect("the export of a schema is a schema");
        let mut types = HashMap::new();
        for definition in &document.definitions {
            let TypeSystemDefinition::Type(definition) = definition else {
                continue;
            };
            let name = definition.node.name.node.as_str();
            let fields = match &definition.node.kind {
                TypeKind::Object(object) => &object.fields,
                TypeKind::Interface(interface) => &interface.fields,
                _ => continue,
            };
            let steps = fields
                .iter()
                .map(|field| (field.node.name.node.to_string(), step(name, &field.node)));
            types.insert(name.to_owned(), steps.collect());
        }
        for (name, fields) in INTROSPECTION {
            let steps = fields.iter().map(|&(field, to, items)| {
                let to = to.to_owned();
                let items = Items::Usual(items);
                (field.to_owned(), Step { to, items })
            });
            types.insert(name.to_owned(), steps.collect());
        }
        Self { types }
    }

    /// Where a field of a type leads; `None` for what the schema doesn't have.
    pub(super) fn step(&self, parent: &str, field: &str) -> Option<&Step> {
        self.types.get(parent)?.get(field)
    }
}

fn step(parent: &str, field: &FieldDefinition) -> Step {
    let named = |name: &str| {
        let arguments = field.arguments.iter();
        arguments
            .map(|argument| argument.node.name.node.as_str())
            .any(|argument| argument == name)
    };
    let mut base = &field.ty.node.base;
    let mut items = 1;
    while let BaseType::List(inner) = base {
        // A connection's lists are as long as the page that was asked for, which counts where it is asked for.
        if !parent.ends_with("Connection") {
            items *= LIST_ITEMS;
        }
        base = &inner.base;
    }
    let BaseType::Named(to) = base else {
        unreachable!("the loop ends at what is no list");
    };
    let items = if named("first") || named("last") {
        Items::Page
    } else {
        Items::Usual(items)
    };
    Step {
        to: to.to_string(),
        items,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_pages_are_told_apart() {
        let shape = Shape::of(&crate::graphql::sdl());
        let items = |parent, field| shape.step(parent, field).map(|step| step.items);
        assert_eq!(items("Query", "conversions"), Some(Items::Page));
        assert_eq!(
            items("Query", "nodes"),
            Some(Items::Usual(LIST_ITEMS)),
            "a list of the root"
        );
        assert_eq!(
            items("ConversionConnection", "nodes"),
            Some(Items::Usual(1)),
            "the page counts once"
        );
        assert_eq!(
            items("Batch", "conversions"),
            Some(Items::Usual(LIST_ITEMS))
        );
        assert_eq!(items("Conversion", "batch"), Some(Items::Usual(1)));
        assert_eq!(items("Conversion", "none"), None);
        assert_eq!(
            shape.step("ConversionEdge", "node").map(|step| &*step.to),
            Some("Conversion")
        );
    }
}
