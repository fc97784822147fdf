//! What a document would cost, counted before anything else looks at it: the library's own rules walk fragments
//! again at every spread, so a few hundred bytes that double at each level cost them seconds.
//!
//! Every definition is read once, in the order in which fragments need each other; sums saturate.

use std::fmt;

use async_graphql::{Variables, parser::types::ExecutableDocument};

use self::{
    shape::Shape,
    weight::{Weight, Weights},
};

pub mod scan;
pub mod shape;
mod weight;

#[cfg(test)]
mod tests;

/// What a request may cost at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostLimits {
    pub document_bytes_max: u64,
    pub tokens_max: u64,
    pub nesting_max: u64,
    pub name_bytes_max: u64,
    pub operations_max: u64,
    pub fragments_max: u64,
    pub selections_max: u64,
    pub levels_max: u64,
    pub depth_max: u64,
    pub root_fields_max: u64,
    pub aliases_max: u64,
    pub directives_max: u64,
    pub arguments_max: u64,
    pub values_max: u64,
    pub complexity_max: u64,
    pub introspection_max: u64,
    pub repeated_bytes_max: u64,
}

impl Default for CostLimits {
    fn default() -> Self {
        Self {
            // Our own largest document has 2 kB; pictures belong into variables.
            document_bytes_max: 128 << 10,
            // The introspection query of graphql-js has about 300, a full page of conversions about 150.
            tokens_max: 5_000,
            // Under the 64 at which the parser gives up; its grammar recurses without a limit of its own.
            nesting_max: 50,
            // The schema's longest name has 22; misspelt ones are compared with all of a type, letter by letter.
            name_bytes_max: 100,
            operations_max: 20,
            fragments_max: 50,
            // Validation takes about 2 µs a selection.
            selections_max: 2_000,
            // What the library itself allows, spreads counted.
            levels_max: 32,
            // The introspection query of graphql-js has 15; the deepest sensible one of ours about ten.
            depth_max: 16,
            root_fields_max: 20,
            aliases_max: 100,
            directives_max: 100,
            // The field with most has five.
            arguments_max: 20,
            values_max: 4_000,
            // A page of 100 conversions with all their fields has about 14,000.
            complexity_max: 15_000,
            // The introspection query of graphql-js is estimated at about 90,000.
            introspection_max: 200_000,
            // A variable's value is copied at every use; pictures weigh megabytes.
            repeated_bytes_max: 1 << 20,
        }
    }
}

/// What was counted, in the words of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counted {
    DocumentBytes,
    Tokens,
    Nesting,
    NameBytes,
    Operations,
    Fragments,
    Selections,
    Levels,
    Depth,
    RootFields,
    Aliases,
    Directives,
    Arguments,
    Values,
    Complexity,
    Introspection,
    RepeatedBytes,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DocumentBytes => "bytes of document (pictures go into variables)",
            Self::Tokens => "tokens",
            Self::Nesting => "levels of brackets",
            Self::NameBytes => "letters of one name",
            Self::Operations => "operations in the document",
            Self::Fragments => "fragments",
            Self::Selections => "selections, fragments written out",
            Self::Levels => "levels of selections, fragments counted",
            Self::Depth => "levels of fields",
            Self::RootFields => "fields of the root",
            Self::Aliases => "aliases",
            Self::Directives => "directives",
            Self::Arguments => "arguments of one field",
            Self::Values => "argument values",
            Self::Complexity => "fields in the answer (lists and pages at their full length)",
            Self::Introspection => "fields in the answer about the schema",
            Self::RepeatedBytes => "bytes of variables that are used again",
        })
    }
}

/// Why a document is not even validated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// More of something than is allowed.
    #[error("The request is too complex: it has {counted} {what}, and {allowed} are allowed.")]
    TooMuch {
        what: Counted,
        counted: u64,
        allowed: u64,
    },
    /// Fragments that spread each other without an end.
    #[error("The fragment `{fragment}` spreads itself, directly or through others.")]
    Cycle { fragment: String },
    /// A string without its closing quote.
    #[error("A string that begins at byte {at} of the document has no end.")]
    OpenString { at: usize },
}

impl Counted {
    /// Holds a count against what is allowed.
    fn limit(self, counted: u64, allowed: u64) -> Result<(), CostError> {
        if counted <= allowed {
            return Ok(());
        }
        Err(CostError::TooMuch {
            what: self,
            counted,
            allowed,
        })
    }
}

/// What a document costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Selections that validation visits: of all definitions, each with its fragments written out.
    pub selections: u64,
    /// Levels of fields, fragments written out.
    pub depth: u64,
    /// Fields in the answer, lists and pages at their full length.
    pub complexity: u64,
    /// Whether it asks for the schema (`__schema`, `__type`) anywhere.
    pub introspects: bool,
}

/// Counts a parsed document, and refuses it when it has too much of anything. What is selected with a condition
/// (`@skip`, `@include`) counts as selected.
///
/// `operation` is the one to be executed, where the document has several. Depth, aliases, root fields and the size
/// of the answer are its own; what validation walks is counted over the whole document, because all of it is validated.
///
/// # Errors
/// [`CostError`] with what was counted.
pub fn check(
    document: &ExecutableDocument,
    operation: Option<&str>,
    variables: &Variables,
    shape: &Shape,
    limits: &CostLimits,
) -> Result<Cost, CostError> {
    let operations = document.operations.iter().len() as u64;
    Counted::Operations.limit(operations, limits.operations_max)?;
    Counted::Fragments.limit(document.fragments.len() as u64, limits.fragments_max)?;
    let weights = Weights::of(document, operation, variables, shape)?;
    let executed = weights.executed;
    check_total(&weights.total, weights.variable_bytes, limits)?;
    check_executed(&executed, limits)?;
    Ok(Cost {
        selections: weights.total.selections,
        depth: executed.depth,
        complexity: executed.complexity,
        introspects: weights.total.introspects,
    })
}

fn check_total(total: &Weight, variable_bytes: u64, limits: &CostLimits) -> Result<(), CostError> {
    Counted::Selections.limit(total.selections, limits.selections_max)?;
    Counted::Levels.limit(total.levels, limits.levels_max)?;
    Counted::Directives.limit(total.directives, limits.directives_max)?;
    Counted::Arguments.limit(total.arguments, limits.arguments_max)?;
    Counted::Values.limit(total.values, limits.values_max)?;
    // Once in the operation, and once in a fragment that is validated by itself.
    let repeated = total
        .variable_bytes
        .saturating_sub(variable_bytes.saturating_mul(2));
    Counted::RepeatedBytes.limit(repeated, limits.repeated_bytes_max)
}

fn check_executed(executed: &Weight, limits: &CostLimits) -> Result<(), CostError> {
    Counted::Depth.limit(executed.depth, limits.depth_max)?;
    Counted::RootFields.limit(executed.top_fields, limits.root_fields_max)?;
    Counted::Aliases.limit(executed.aliases, limits.aliases_max)?;
    Counted::Complexity.limit(executed.complexity, limits.complexity_max)?;
    Counted::Introspection.limit(executed.introspection, limits.introspection_max)
}
