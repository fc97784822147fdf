//! What a document asks for, as far as the gate and the audit log must know before it runs.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use async_graphql::{
    Positioned,
    parser::{
        parse_schema,
        types::{
            ExecutableDocument, OperationType, Selection, SelectionSet, TypeKind,
            TypeSystemDefinition,
        },
    },
};

/// The root fields that count as submissions.
const SUBMISSIONS: [&str; 3] = ["submitConversion", "submitBatch", "retryConversion"];
/// Labels are for people; the audit log's column is as long.
const LABEL_CHARS_MAX: usize = 200;

/// One operation of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub kind: OperationType,
    /// Its root fields, such as `submitBatch`, in their order, once each.
    pub label: String,
    /// How many pictures or batches it submits.
    pub submissions: u32,
}

impl Operation {
    /// The operation of a document that will run; `None` when it is not clear which: execution will refuse it.
    #[must_use]
    pub fn of(document: &ExecutableDocument, name: Option<&str>) -> Option<Self> {
        let mut operations = document.operations.iter();
        let (_, operation) = match name {
            Some(name) => operations.find(|(known, _)| known.is_some_and(|known| known == name))?,
            None => operations.next().filter(|_| operations.next().is_none())?,
        };
        let mut roots = Roots {
            document,
            counted: HashMap::new(),
            fields: Vec::new(),
        };
        let submissions = roots.walk(&operation.node.selection_set);
        let label = roots.fields.join(" ");
        Some(Self {
            kind: operation.node.ty,
            label: label.chars().take(LABEL_CHARS_MAX).collect(),
            submissions,
        })
    }

    /// Whether it asks for nothing but the schema.
    #[must_use]
    pub fn is_about_schema(&self) -> bool {
        let mut fields = self.label.split(' ');
        fields.all(|field| ["__schema", "__type", "__typename"].contains(&field))
    }

    /// The first of its root fields, if the schema has it: one of a fixed set, for who counts operations.
    #[must_use]
    pub fn root_field(&self) -> Option<&'static str> {
        static FIELDS: LazyLock<BTreeSet<String>> = LazyLock::new(root_fields);
        let first = self.label.split(' ').next()?;
        FIELDS.get(first).map(String::as_str)
    }

    /// Whether it changes anything.
    #[must_use]
    pub fn is_mutation(&self) -> bool {
        self.kind == OperationType::Mutation
    }
}

/// What clients may ask for at the top of an operation.
fn root_fields() -> BTreeSet<String> {
    let document = parse_schema(super::sdl()).expect("the export of a schema is a schema");
    let mut fields = BTreeSet::new();
    for definition in &document.definitions {
        let TypeSystemDefinition::Type(definition) = definition else {
            continue;
        };
        let name = definition.node.name.node.as_str();
        if let TypeKind::Object(object) = &definition.node.kind
            && ["Query", "Mutation", "Subscription"].contains(&name)
        {
            let names = object.fields.iter();
            fields.extend(names.map(|field| field.node.name.node.to_string()));
        }
    }
    fields
}

struct Roots<'a> {
    document: &'a ExecutableDocument,
    /// Submissions of each fragment; each is walked once, however often it is spread.
    counted: HashMap<&'a str, u32>,
    /// Names of root fields, once each.
    fields: Vec<&'a str>,
}

impl<'a> Roots<'a> {
    /// How many submissions a selection makes. Each spread runs its fragment once more.
    fn walk(&mut self, set: &'a Positioned<SelectionSet>) -> u32 {
        let mut submissions = 0_u32;
        for selection in &set.node.items {
            submissions = submissions.saturating_add(match &selection.node {
                Selection::Field(field) => self.field(field.node.name.node.as_str()),
                Selection::InlineFragment(fragment) => self.walk(&fragment.node.selection_set),
                Selection::FragmentSpread(spread) => {
                    self.fragment(spread.node.fragment_name.node.as_str())
                }
            });
        }
        submissions
    }

    fn field(&mut self, name: &'a str) -> u32 {
        if !self.fields.contains(&name) {
            self.fields.push(name);
        }
        u32::from(SUBMISSIONS.contains(&name))
    }

    fn fragment(&mut self, name: &'a str) -> u32 {
        if let Some(counted) = self.counted.get(name) {
            return *counted;
        }
        // A fragment within itself counts nothing more; the library's validation refuses it.
        self.counted.insert(name, 0);
        let Some(fragment) = self.document.fragments.get(name) else {
            return 0;
        };
        let counted = self.walk(&fragment.node.selection_set);
        self.counted.insert(name, counted);
        counted
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    fn operation(text: &str, name: Option<&str>) -> Option<Operation> {
        Operation::of(&parse_query(text).expect("it parses"), name)
    }

    #[test]
    fn root_fields_are_found_through_fragments() {
        let text =
            "mutation M { a: submitBatch { x } b: submitBatch { x } ...F ... { pauseQueue } ...F }
            fragment F on Mutation { retryConversion { ...G } } fragment G on X { submitBatch }";
        let found = operation(text, None).expect("there is one");
        assert!(found.is_mutation());
        assert_eq!(found.label, "submitBatch retryConversion pauseQueue");
        assert_eq!(found.submissions, 4);
        assert_eq!(found.root_field(), Some("submitBatch"));
        let made_up = operation("{ whatever { name } }", None).expect("there is one");
        assert_eq!(made_up.root_field(), None, "clients name no labels");
        assert_eq!(operation(text, Some("N")), None);
    }

    #[test]
    fn which_of_several_must_be_said() {
        let text = "query A { viewer { name } } subscription B { queueStatus { queued } }";
        assert_eq!(operation(text, None), None);
        assert!(!operation(text, Some("A")).expect("named").is_about_schema());
        let about = operation("{ __typename ...F } fragment F on Query { __type }", None);
        assert!(about.expect("there is one").is_about_schema());
        let b = operation(text, Some("B")).expect("named");
        assert_eq!((b.kind, b.submissions), (OperationType::Subscription, 0));
        assert!(operation("{ ...F } fragment F on Query { ...F }", None).is_some());
    }
}
