//! Features turned on and off while the daemon runs.
//!
//! A change is made real first, then kept in `ROOT/features.json`; when either fails, everything is as before.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use axum::Router;
use tokio::sync::Mutex;

use crate::{
    faces::Faces,
    features::{FeatureError, Features},
    resolver::Resolver,
};

/// What can be switched, and how it stands.
pub(crate) struct Switch {
    pub(crate) root: PathBuf,
    pub(crate) features: Mutex<Features>,
    pub(crate) faces: Arc<Faces>,
    pub(crate) resolver: Arc<Resolver>,
    /// What each face serves.
    pub(crate) routers: Vec<(&'static str, Router)>,
}

impl Switch {
    /// Turns a feature on with all that it needs; answers what was turned on.
    pub(crate) async fn enable(&self, name: &str) -> anyhow::Result<Vec<&'static str>> {
        let mut features = self.features.lock().await;
        let mut wanted = features.clone();
        let brought = wanted.enable(name)?;
        for (at, feature) in brought.iter().enumerate() {
            if let Err(error) = self.open(feature).await {
                for feature in &brought[..at] {
                    self.close(feature).await;
                }
                return Err(error.context(format!("enabling {feature}")));
            }
        }
        if let Err(error) = wanted.save(&self.root) {
            for feature in &brought {
                self.close(feature).await;
            }
            return Err(error.into());
        }
        *features = wanted;
        Ok(brought)
    }

    /// Turns a feature off; answers what was turned off.
    pub(crate) async fn disable(&self, name: &str) -> anyhow::Result<Vec<&'static str>> {
        let mut features = self.features.lock().await;
        let mut wanted = features.clone();
        if !wanted.disable(name)? {
            return Ok(Vec::new());
        }
        // Kept first: a file that cannot be written must not leave a face closed until the next start.
        wanted.save(&self.root)?;
        let feature = crate::features::find(name)?.name;
        self.close(feature).await;
        *features = wanted;
        Ok(vec![feature])
    }

    /// Makes a feature work. One that always does needs nothing.
    pub(crate) async fn open(&self, feature: &'static str) -> anyhow::Result<()> {
        if feature == "dns" {
            self.resolver.start();
        }
        let Some(router) = self.router(feature) else { return Ok(()) };
        let bound = self.faces.bind(feature).await?;
        self.faces.serve(feature, bound, router).context("serving it")
    }

    async fn close(&self, feature: &str) {
        match feature {
            "dns" => self.resolver.stop().await,
            face => self.faces.close(face).await,
        }
    }

    /// What a face serves; `None` for features that are no faces.
    pub(crate) fn router(&self, face: &str) -> Option<&Router> {
        self.routers.iter().find(|(name, _)| *name == face).map(|(_, router)| router)
    }
}

/// Whether a change was refused for what was asked, and not because something failed.
pub(crate) fn refusal(error: &anyhow::Error) -> Option<&FeatureError> {
    error.downcast_ref().filter(|e| !matches!(e, FeatureError::File { .. } | FeatureError::Syntax { .. }))
}
