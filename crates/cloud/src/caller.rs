//! Who asks, and whether they may: the one place where every use case is authorised.
//!
//! Without the identity feature there is one caller, the local administrator, to whom the socket's file
//! permissions already gave the host. The decision point is here from the first day, so that no use case
//! exists without one.

use weft_model::{ProjectId, default_project};

use crate::{CloudError, Result};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For the audit trail and for logs.
    pub name: String,
    /// The project the caller acts in; new resources belong to it.
    pub project: ProjectId,
    /// May act on every project's resources and on the host.
    pub admin: bool,
    /// Identifies the request in logs.
    pub request: String,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look at a resource.
    Read,
    /// Make, change or remove a resource.
    Write,
    /// Reach the host itself: its paths, devices, namespaces, daemon settings.
    Host,
}

impl Caller {
    /// Whoever can open the root-only socket.
    #[must_use]
    pub fn local_administrator(request: impl Into<String>) -> Self {
        Self { name: "root".into(), project: default_project(), admin: true, request: request.into() }
    }

    /// Whether this caller sees resources of `project` at all.
    #[must_use]
    pub fn sees(&self, project: ProjectId) -> bool {
        self.admin || project == self.project
    }

    /// Decides `action` on a resource of `project` (the caller's own when none exists yet).
    pub fn authorise(&self, action: Action, project: ProjectId) -> Result<()> {
        let allowed = match action {
            Action::Read | Action::Write => self.sees(project),
            Action::Host => self.admin,
        };
        if allowed {
            Ok(())
        } else {
            Err(CloudError::Forbidden(format!("{} is not allowed to do this", self.name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_reaches_its_project_and_never_the_host() {
        let mine = ProjectId::new();
        let tenant = Caller { name: "t".into(), project: mine, admin: false, request: String::new() };
        assert!(tenant.authorise(Action::Write, mine).is_ok());
        assert!(tenant.authorise(Action::Read, ProjectId::new()).is_err());
        assert!(tenant.authorise(Action::Host, mine).is_err());
        assert!(Caller::local_administrator("r").authorise(Action::Host, mine).is_ok());
    }
}
