//! What happens to a request before the library sees it, whichever way it came.

use async_graphql::{Name, Request, Response, Value, parser::types::OperationType};

use super::{
    Schema,
    cost::{self, Cost, CostError, CostLimits, scan::scan, shape::Shape},
    documents::{Documents, Found, Keep, asked::Asked},
    error::{ApiError, ErrorCode},
    operation::Operation,
};
use crate::auth::principal::{Permission, Principal};

/// What requests are held against.
#[derive(Debug, Clone)]
pub struct Policy {
    pub limits: CostLimits,
    pub shape: Shape,
    pub documents: Documents,
    /// Whether everybody may ask for the schema; else only admins.
    pub is_introspection_open: bool,
}

/// A request that may be executed.
#[derive(Debug)]
pub struct Prepared {
    /// The request, with its document parsed; its caller is to be put into its data.
    pub request: Request,
    /// The operation that will run. `None` when the document can't be parsed or it isn't clear which is chosen: the
    /// library will refuse it, and say where.
    pub operation: Option<Operation>,
    /// Whether any operation that may be the chosen one changes something.
    pub mutates: bool,
    pub cost: Cost,
    /// Whether it may run where only trusted documents do.
    pub may_run: bool,
    /// What to keep by [`keep`] when the document turns out to be valid.
    pub keep: Option<Keep>,
}

impl Prepared {
    /// Whether it is a subscription.
    #[must_use]
    pub fn subscribes(&self) -> bool {
        let operation = self.operation.as_ref();
        operation.is_some_and(|operation| operation.kind == OperationType::Subscription)
    }

    /// Whether this caller may run the document, and ask about the schema, if it does.
    ///
    /// # Errors
    /// `FORBIDDEN` where such documents or questions are for admins.
    pub fn check_caller(&self, schema: &Schema, principal: &Principal) -> Result<(), ApiError> {
        if principal.may(Permission::Admin) {
            return Ok(());
        }
        if self.cost.introspects && !policy(schema).is_introspection_open {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                "This server tells its schema to admins alone.",
            ));
        }
        // Who may read the schema is said by the setting for that.
        let asks_schema = |operation: &Operation| operation.is_about_schema();
        if !self.may_run && !self.operation.as_ref().is_some_and(asks_schema) {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                "This server runs registered documents alone: name one by `documentId`, or have its operator register this one.",
            ));
        }
        Ok(())
    }
}

/// Keeps the document of a request that has turned out to be valid.
pub fn keep(schema: &Schema, keep: Keep) {
    policy(schema).documents.keep(keep);
}

fn policy(schema: &Schema) -> &Policy {
    schema
        .data::<Policy>()
        .expect("every schema is built with its policy")
}

/// Whether an answer says that the request could not be executed at all: there is no data, and no field to blame.
#[must_use]
pub fn is_request_error(response: &Response) -> bool {
    response.data == Value::Null && response.errors.iter().any(|error| error.path.is_empty())
}

/// Finds the document of a request and counts what it would cost, before anything else looks at it.
///
/// # Errors
/// `PERSISTED_QUERY_NOT_FOUND` for a document that is named and not known, `INVALID_INPUT` for a name that makes no
/// sense, `QUERY_TOO_COMPLEX` with what was counted, `GRAPHQL_VALIDATION_FAILED` for fragments in a circle,
/// `GRAPHQL_PARSE_FAILED` for a string without an end.
pub fn prepare(schema: &Schema, asked: Asked) -> Result<Prepared, ApiError> {
    let policy = policy(schema);
    let Found {
        mut request,
        may_run,
        keep,
    } = policy.documents.find(asked)?;
    scan(&request.query, &policy.limits)?;
    let Inspected {
        operation,
        mutates,
        cost,
    } = inspect(policy, &mut request)?;
    Ok(Prepared {
        request,
        operation,
        mutates,
        cost,
        may_run,
        keep,
    })
}

/// What was found in a document; nothing when it can't be parsed.
#[derive(Default)]
struct Inspected {
    operation: Option<Operation>,
    mutates: bool,
    cost: Cost,
}

fn inspect(policy: &Policy, request: &mut Request) -> Result<Inspected, CostError> {
    // Borrowed for themselves: the document borrows all of the request.
    let variables = std::mem::take(&mut request.variables);
    let name = request.operation_name.take();
    let fits =
        |operation: Option<&Name>| name.is_none() || operation.map(Name::as_str) == name.as_deref();
    let found = match request.parsed_query() {
        // The library parses it once more and says where it went wrong.
        Err(_) => Ok(Inspected::default()),
        Ok(document) => {
            let Policy { limits, shape, .. } = policy;
            cost::check(document, name.as_deref(), &variables, shape, limits).map(|cost| {
                let mut operations = document.operations.iter();
                Inspected {
                    mutates: operations.any(|(operation, definition)| {
                        fits(operation) && definition.node.ty == OperationType::Mutation
                    }),
                    operation: Operation::of(document, name.as_deref()),
                    cost,
                }
            })
        }
    };
    request.variables = variables;
    request.operation_name = name;
    found
}
