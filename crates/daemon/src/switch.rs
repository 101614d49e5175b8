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
    pub(crate) docker: Router,
    pub(crate) metrics: Router,
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
        let router = match feature {
            "docker" => &self.docker,
            "metrics" => &self.metrics,
            "dns" => {
                self.resolver.start();
                return Ok(());
            }
            _ => return Ok(()),
        };
        let bound = self.faces.bind(feature).await?;
        self.faces.serve(feature, bound, router).context("serving it")
    }

    async fn close(&self, feature: &str) {
        match feature {
            "docker" | "metrics" => self.faces.close(feature).await,
            "dns" => self.resolver.stop().await,
            _ => {}
        }
    }
}

/// Whether a change was refused for what was asked, and not because something failed.
pub(crate) fn refusal(error: &anyhow::Error) -> Option<&FeatureError> {
    error.downcast_ref().filter(|e| !matches!(e, FeatureError::File { .. } | FeatureError::Syntax { .. }))
}
