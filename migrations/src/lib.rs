//! The database schema of orfeas, one folder of SQL a step, each up and down.
//!
//! Steps expand first and contract in a later release, so that two versions can share one database.

use sea_orm_migration::{
    MigrationName, SchemaManager, async_trait, sea_orm::ConnectionTrait, sea_orm::DbErr,
};
pub use sea_orm_migration::{MigrationTrait, MigratorTrait};

/// One step: its name, under which the database remembers it, and its SQL.
#[derive(Debug)]
struct Step {
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

/// The step in the folder of this name.
macro_rules! step {
    ($name:literal) => {
        Box::new(Step {
            name: $name,
            up: include_str!(concat!($name, "/up.sql")),
            down: include_str!(concat!($name, "/down.sql")),
        })
    };
}

impl MigrationName for Step {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .get_connection()
            .execute_unprepared(self.up)
            .await
            .map(|_| ())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .get_connection()
            .execute_unprepared(self.down)
            .await
            .map(|_| ())
    }
}

/// All steps in their order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            step!("m0001_conversions"),
            step!("m0002_identity"),
            step!("m0003_audit"),
            step!("m0004_webhooks"),
            step!("m0005_turntables"),
            step!("m0006_retention"),
            step!("m0007_traces"),
            step!("m0008_notices"),
            step!("m0009_transitions"),
            step!("m0010_submissions"),
            step!("m0011_lock_order"),
        ]
    }
}
