//! Sums over selections, each fragment summed once.

use std::collections::HashMap;

use async_graphql::{
    Name, Positioned, Value as ConstValue, Variables,
    parser::types::{
        Directive, ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet,
    },
};
use async_graphql_value::Value;

use super::{
    CostError,
    shape::{Items, PAGE_DEFAULT, PAGE_MAX, Shape},
};

/// What stands below one place of a document, fragments written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Weight {
    pub(super) selections: u64,
    /// Fields of this very object.
    pub(super) top_fields: u64,
    pub(super) aliases: u64,
    pub(super) directives: u64,
    /// Of the one field or directive that has most.
    pub(super) arguments: u64,
    /// Scalars, lists and objects in arguments.
    pub(super) values: u64,
    /// Bytes of variables, as often as they are used.
    pub(super) variable_bytes: u64,
    pub(super) depth: u64,
    pub(super) levels: u64,
    pub(super) complexity: u64,
    pub(super) introspection: u64,
    pub(super) introspects: bool,
}

impl Weight {
    /// Two things beside each other.
    fn beside(self, other: Self) -> Self {
        Self {
            selections: self.selections.saturating_add(other.selections),
            top_fields: self.top_fields.saturating_add(other.top_fields),
            aliases: self.aliases.saturating_add(other.aliases),
            directives: self.directives.saturating_add(other.directives),
            arguments: self.arguments.max(other.arguments),
            values: self.values.saturating_add(other.values),
            variable_bytes: self.variable_bytes.saturating_add(other.variable_bytes),
            depth: self.depth.max(other.depth),
            levels: self.levels.max(other.levels),
            complexity: self.complexity.saturating_add(other.complexity),
            introspection: self.introspection.saturating_add(other.introspection),
            introspects: self.introspects || other.introspects,
        }
    }
}

/// The weights of a document.
pub(super) struct Weights {
    /// Of the operation to be executed; of all together when it isn't clear which that is.
    pub(super) executed: Weight,
    /// Of every definition for itself, as validation visits them.
    pub(super) total: Weight,
    /// The size of all variables, each once.
    pub(super) variable_bytes: u64,
}

impl Weights {
    /// Weighs a document.
    ///
    /// # Errors
    /// [`CostError::Cycle`].
    pub(super) fn of(
        document: &ExecutableDocument,
        operation: Option<&str>,
        variables: &Variables,
        shape: &Shape,
    ) -> Result<Self, CostError> {
        let chosen =
            |name: Option<&Name>| operation.is_none() || name.map(Name::as_str) == operation;
        let is_known = document.operations.iter().any(|(name, _)| chosen(name));
        let sizes = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value_bytes(value)))
            .collect();
        let mut scale = Scale {
            shape,
            variables,
            sizes,
            defaults: HashMap::new(),
            fragments: HashMap::new(),
        };
        for (name, operation) in document.operations.iter() {
            if !is_known || chosen(name) {
                scale.learn_defaults(&operation.node);
            }
        }
        let mut total = Weight::default();
        for (name, fragment) in in_order(document)? {
            let on = fragment.node.type_condition.node.on.node.as_str();
            let below = scale.selection_set(&fragment.node.selection_set.node, Some(on));
            let weight = below.beside(scale.directives(&fragment.node.directives));
            total = total.beside(weight);
            scale.fragments.insert(name.as_str(), weight);
        }
        let mut executed = Weight::default();
        for (name, operation) in document.operations.iter() {
            let weight = scale.operation(&operation.node);
            total = total.beside(weight);
            if !is_known || chosen(name) {
                executed = executed.beside(weight);
            }
        }
        Ok(Self {
            executed,
            total,
            variable_bytes: scale
                .sizes
                .values()
                .fold(0, |sum, bytes| sum.saturating_add(*bytes)),
        })
    }
}

type Fragment<'a> = (
    &'a Name,
    &'a Positioned<async_graphql::parser::types::FragmentDefinition>,
);

/// Fragments after those that they spread.
fn in_order(document: &ExecutableDocument) -> Result<Vec<Fragment<'_>>, CostError> {
    let mut waiting: Vec<(Fragment<'_>, Vec<&str>)> = document
        .fragments
        .iter()
        .map(|fragment| {
            let mut spreads = Vec::new();
            collect_spreads(&fragment.1.node.selection_set.node, &mut spreads);
            // What isn't defined is the library's to refuse.
            spreads.retain(|name| document.fragments.contains_key(*name));
            (fragment, spreads)
        })
        .collect();
    let mut ordered: Vec<Fragment<'_>> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let before = ordered.len();
        waiting.retain_mut(|(fragment, spreads)| {
            spreads.retain(|name| !ordered.iter().any(|(done, _)| done.as_str() == *name));
            if spreads.is_empty() {
                ordered.push(*fragment);
            }
            !spreads.is_empty()
        });
        if ordered.len() == before {
            let fragment = waiting[0].0.0.to_string();
            return Err(CostError::Cycle { fragment });
        }
    }
    Ok(ordered)
}

/// The parser has bounded how deep one definition is.
fn collect_spreads<'a>(set: &'a SelectionSet, found: &mut Vec<&'a str>) {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => collect_spreads(&field.node.selection_set.node, found),
            Selection::InlineFragment(inline) => {
                collect_spreads(&inline.node.selection_set.node, found);
            }
            Selection::FragmentSpread(spread) => {
                let name = spread.node.fragment_name.node.as_str();
                if !found.contains(&name) {
                    found.push(name);
                }
            }
        }
    }
}

/// Weighs definitions one after the other.
struct Scale<'a> {
    shape: &'a Shape,
    variables: &'a Variables,
    sizes: HashMap<&'a str, u64>,
    defaults: HashMap<&'a str, &'a ConstValue>,
    fragments: HashMap<&'a str, Weight>,
}

impl<'a> Scale<'a> {
    fn learn_defaults(&mut self, operation: &'a OperationDefinition) {
        for definition in &operation.variable_definitions {
            if let Some(value) = &definition.node.default_value {
                self.defaults
                    .insert(definition.node.name.node.as_str(), &value.node);
            }
        }
    }

    fn operation(&self, operation: &OperationDefinition) -> Weight {
        use async_graphql::parser::types::OperationType;
        let root = match operation.ty {
            OperationType::Query => "Query",
            OperationType::Mutation => "Mutation",
            OperationType::Subscription => "Subscription",
        };
        let below = self.selection_set(&operation.selection_set.node, Some(root));
        operation
            .variable_definitions
            .iter()
            .map(|definition| self.directives(&definition.node.directives))
            .fold(below, Weight::beside)
            .beside(self.directives(&operation.directives))
    }

    fn selection_set(&self, set: &SelectionSet, parent: Option<&str>) -> Weight {
        let mut sum = Weight::default();
        for selection in &set.items {
            let weight = match &selection.node {
                Selection::Field(field) => self.field(&field.node, parent),
                Selection::InlineFragment(inline) => {
                    let on = inline.node.type_condition.as_ref();
                    let on = on.map_or(parent, |condition| Some(condition.node.on.node.as_str()));
                    self.selection_set(&inline.node.selection_set.node, on)
                }
                Selection::FragmentSpread(spread) => {
                    let name = spread.node.fragment_name.node.as_str();
                    self.fragments.get(name).copied().unwrap_or_default()
                }
            };
            sum = sum
                .beside(weight)
                .beside(self.directives(selection.node.directives()));
        }
        sum.selections = sum.selections.saturating_add(set.items.len() as u64);
        sum.levels = sum.levels.saturating_add(u64::from(!set.items.is_empty()));
        sum
    }

    fn field(&self, field: &Field, parent: Option<&str>) -> Weight {
        let name = field.name.node.as_str();
        let (to, items) = self.step(field, parent);
        let below = self.selection_set(&field.selection_set.node, to);
        let is_introspection = matches!(name, "__schema" | "__type")
            || parent.is_some_and(|parent| parent.starts_with("__"));
        let answered = |below: u64| items.saturating_mul(below).saturating_add(1);
        let own = Weight {
            top_fields: 1,
            aliases: u64::from(field.alias.is_some()).saturating_add(below.aliases),
            depth: below.depth.saturating_add(1),
            complexity: if is_introspection {
                0
            } else {
                answered(below.complexity)
            },
            introspection: if is_introspection {
                answered(below.introspection)
            } else {
                below.introspection
            },
            introspects: is_introspection || below.introspects,
            ..below
        };
        own.beside(self.arguments(&field.arguments))
    }

    /// The type that a field leads to, and how many of it.
    fn step(&self, field: &Field, parent: Option<&str>) -> (Option<&'a str>, u64) {
        match field.name.node.as_str() {
            "__schema" => return (Some("__Schema"), 1),
            "__type" => return (Some("__Type"), 1),
            _ => {}
        }
        let name = field.name.node.as_str();
        let Some(step) = parent.and_then(|parent| self.shape.step(parent, name)) else {
            return (None, 1);
        };
        let items = match step.items {
            Items::Usual(items) => items,
            Items::Page => self.page(field),
        };
        (Some(step.to.as_str()), items)
    }

    /// How long a page is asked for.
    fn page(&self, field: &Field) -> u64 {
        let count = |name| match field.get_argument(name).map(|value| &value.node) {
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::Variable(variable)) => {
                let given = self.variables.get(variable);
                match given.or_else(|| self.defaults.get(variable.as_str()).copied()) {
                    Some(ConstValue::Number(number)) => number.as_i64(),
                    _ => None,
                }
            }
            _ => None,
        };
        let asked = count("first").into_iter().chain(count("last")).max();
        asked.map_or(PAGE_DEFAULT, |asked| {
            u64::try_from(asked).unwrap_or_default().min(PAGE_MAX)
        })
    }

    fn directives(&self, directives: &[Positioned<Directive>]) -> Weight {
        directives.iter().fold(Weight::default(), |sum, directive| {
            let own = Weight {
                directives: 1,
                ..self.arguments(&directive.node.arguments)
            };
            sum.beside(own)
        })
    }

    fn arguments(&self, arguments: &[(Positioned<Name>, Positioned<Value>)]) -> Weight {
        let own = Weight {
            arguments: arguments.len() as u64,
            ..Weight::default()
        };
        arguments
            .iter()
            .fold(own, |sum, (_, value)| sum.beside(self.value(&value.node)))
    }

    /// A literal nests no deeper than the parser allows.
    fn value(&self, value: &Value) -> Weight {
        let own = Weight {
            values: 1,
            ..Weight::default()
        };
        match value {
            Value::Variable(name) => Weight {
                variable_bytes: self.sizes.get(name.as_str()).copied().unwrap_or_default(),
                ..own
            },
            Value::List(items) => items
                .iter()
                .fold(own, |sum, item| sum.beside(self.value(item))),
            Value::Object(fields) => fields
                .values()
                .fold(own, |sum, item| sum.beside(self.value(item))),
            _ => own,
        }
    }
}

/// About what copying a variable moves. JSON nests no deeper than its reader allows.
fn value_bytes(value: &ConstValue) -> u64 {
    let own = size_of::<ConstValue>() as u64;
    let inside = match value {
        ConstValue::String(text) => text.len() as u64,
        ConstValue::Binary(bytes) => bytes.len() as u64,
        ConstValue::List(items) => items.iter().map(value_bytes).sum(),
        ConstValue::Object(fields) => fields
            .iter()
            .map(|(name, value)| name.len() as u64 + value_bytes(value))
            .sum(),
        _ => 0,
    };
    own + inside
}
