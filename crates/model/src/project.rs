//! Projects (tenants). A host without an identity service has one, with the all-zero id.

use serde::{Deserialize, Serialize};

use crate::{Project, ProjectId, Resource, Scope};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectSpec {
    /// Identity.
    pub id: ProjectId,
    /// Unique name within its domain.
    pub name: String,
}

/// Projects have nothing to observe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectStatus {}

impl Resource for Project {
    const KIND: &'static str = "project";
    const SCOPE: Scope = Scope::Cluster;
    fn key(&self) -> String {
        self.spec.id.to_string()
    }
}
