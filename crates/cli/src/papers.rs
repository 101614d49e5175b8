//! What is derived from the command line itself: completion scripts and manual pages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

use crate::{args::Line, output};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft completion bash > /usr/share/bash-completion/completions/weft\n  \
    weft completion zsh  > /usr/share/zsh/site-functions/_weft\n  \
    weft completion fish > ~/.config/fish/completions/weft.fish")]
pub struct CompletionArgs {
    /// The shell
    shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  weft man /usr/local/share/man/man1 && man weft-run")]
pub struct ManArgs {
    /// Where the pages are written
    #[arg(default_value = ".")]
    dir: PathBuf,
}

/// Prints the script.
pub fn completion(args: &CompletionArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Line::command(), "weft", &mut script);
    output::bytes(&script)
}

/// Writes one page for each command.
pub fn man(args: &ManArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.dir).with_context(|| format!("making {}", args.dir.display()))?;
    clap_mangen::generate_to(Line::command(), &args.dir)
        .with_context(|| format!("writing manual pages into {}", args.dir.display()))?;
    output::line(format!("manual pages written into {}", args.dir.display()))
}
