//! What is promised in numbers, measured: `cargo xtask bench engine | net | many`, and parts by themselves in `examples/`
//! (`cargo run --release -p weft-bench --example store | driver`).
//!
//! `engine`: this machine's figures, dockerd's beside Weft's.
//! Both daemons run in sandboxes of their own for the whole run. Samples are interleaved (dockerd, Weft,
//! dockerd, …), each after a pause of 150 ms, and the median is told, so that a slow minute of the machine
//! hits both. A row that cannot be measured says why and does not end the run.

mod many;
mod measure;
mod net;
mod rows;
mod table;

use anyhow::{Result, ensure};
use weft_testkit::Subject;

/// What can be measured.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// The engine's figures against dockerd.
    Engine(TableArgs),
    /// The network's figures against dockerd, and against what is made by hand.
    Net(TableArgs),
    /// Hundreds of containers on one network.
    Many(many::Args),
}

/// `cargo xtask bench engine | net`.
#[derive(clap::Args)]
pub struct TableArgs {
    /// Only this subject: dockerd or weft.
    #[arg(long)]
    subject: Option<String>,
    /// Only these rows, by name, with commas between.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Samples of the quick rows; slow rows take a third of it, at least one.
    #[arg(long, default_value_t = 9)]
    samples: usize,
    /// Say the rows' names and end.
    #[arg(long)]
    list: bool,
    /// Also write the table to this file.
    #[arg(long)]
    out: Option<std::path::PathBuf>,
}

/// Runs what was asked.
pub fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Engine(args) => table(args, rows::ROWS),
        Bench::Net(args) => table(args, net::ROWS),
        Bench::Many(args) => many::run(args),
    }
}

fn table(args: &TableArgs, rows: &'static [rows::Row]) -> Result<()> {
    if args.list {
        rows.iter().for_each(|row| println!("{:16} {}", row.name, row.what));
        return Ok(());
    }
    for name in &args.rows {
        ensure!(rows.iter().any(|row| row.name == name), "no row {name:?}: see --list");
    }
    let subjects = match &args.subject {
        Some(name) => vec![Subject::parse(name)?],
        None => vec![Subject::Dockerd, Subject::Weft],
    };
    let results = measure::all(&subjects, rows, &args.rows, args.samples)?;
    let text = table::render(&subjects, &results);
    print!("{text}");
    if let Some(path) = &args.out {
        std::fs::write(path, &text)?;
    }
    Ok(())
}
