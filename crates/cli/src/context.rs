//! What every command is handed.

use std::{future::Future, path::PathBuf};

use crate::{
    client::{Client, DEFAULT_RUN, Endpoint},
    failure::exit,
    output,
};

/// The daemon to talk to, and how to print.
#[derive(Debug)]
pub struct Context {
    /// The daemon.
    pub client: Client,
    /// Print JSON.
    pub json: bool,
    /// `--run`, if it was typed.
    pub run: Option<PathBuf>,
}

impl Context {
    /// Resolves the flags that every command has.
    pub fn new(host: Option<&str>, run: Option<PathBuf>, json: bool) -> anyhow::Result<Self> {
        let endpoint = Endpoint::choose(host, run.as_deref(), |name| std::env::var(name).ok())?;
        Ok(Self { client: Client::new(endpoint), json, run })
    }

    /// The daemon's run directory: what was typed, else where its socket lies, else the default.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.run.clone().or_else(|| self.client.endpoint().run_dir()).unwrap_or_else(|| DEFAULT_RUN.into())
    }

    /// Weft's own API on this host.
    #[must_use]
    pub fn native(&self) -> Client {
        Client::new(Endpoint::Unix(self.run_dir().join("native.sock")))
    }

    /// Does the same to each name: prints the name when it is done, says what failed, goes on, and fails at the end if
    /// any did.
    pub async fn each<'a, F, T>(&'a self, names: &'a [String], mut act: F) -> anyhow::Result<()>
    where
        F: FnMut(&'a str) -> T,
        T: Future<Output = anyhow::Result<()>>,
    {
        let mut failures = 0;
        for name in names {
            let done = act(name).await;
            if self.json {
                let error = done.as_ref().err().map(|e| format!("{e:#}"));
                output::json_line(&serde_json::json!({"Name": name, "Error": error}))?;
            } else if done.is_ok() {
                output::line(name)?;
            }
            if let Err(error) = done {
                failures += 1;
                output::fault(&error);
            }
        }
        if failures > 0 { Err(exit(1)) } else { Ok(()) }
    }
}
