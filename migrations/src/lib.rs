//! The database schema of orfeas, one module per step, each up and down.
//!
//! Steps expand first and contract in a later release, so that two versions can share one database.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::{MigrationTrait, async_trait};

mod m0001_conversions;
mod m0002_identity;
mod m0003_audit;

/// All steps in their order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_conversions::Migration),
            Box::new(m0002_identity::Migration),
            Box::new(m0003_audit::Migration),
        ]
    }
}
