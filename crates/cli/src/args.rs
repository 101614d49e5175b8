//! The command line as a whole: which commands there are, what they share, and help that teaches.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[cfg(feature = "daemon")]
use crate::host;
use crate::{papers, verbs};

const EXAMPLES: &str = "\
Examples:
  weft up --detach                               start the daemon of this host
  weft doctor                                    what this machine can do, and what is missing
  weft network create web                        a network with name resolution
  weft run -d --name db --network web postgres   a container on it
  weft run --rm -it --network web alpine sh      another one, with your terminal
  weft ps; weft logs -f db; weft exec -it db sh  look at them
  weft stop db                                   stop a container; `weft stop` alone stops the daemon

The daemon is found by --host, else --run, else WEFT_HOST, else DOCKER_HOST, else unix:///run/weft/docker.sock.
Exit codes: 0 done, 1 failed, 2 wrong usage; run: 125 the daemon failed, 126 and 127 the program cannot be
executed or is not there, otherwise the program's own.";

/// A container cloud in one binary.
#[derive(Parser, Debug)]
#[command(name = "weft", version, about, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Line {
    /// The daemon: unix:///path or tcp://host:port
    #[arg(short = 'H', long, global = true, value_name = "URI")]
    pub host: Option<String>,
    /// The daemon's run directory [default: /run/weft]
    #[arg(long, global = true, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the daemon of this host
    #[cfg(feature = "daemon")]
    Up(Box<host::up::UpArgs>),
    /// How the daemon is
    Status,
    /// What this machine can do for containers, what is missing, and what is lost by it
    #[cfg(feature = "daemon")]
    Doctor(host::doctor::DoctorArgs),
    /// List, enable and disable parts of the daemon
    #[cfg(feature = "daemon")]
    Feature(host::feature::FeatureArgs),
    /// Check or print the daemon's store; the daemon must be stopped
    #[cfg(feature = "daemon")]
    Store(host::store::StoreArgs),
    /// Print the daemon's metrics in Prometheus' format
    Metrics(verbs::metrics::MetricsArgs),
    /// What happens, as it happens
    Events(verbs::events::EventsArgs),
    /// Print the completion script for a shell
    Completion(papers::CompletionArgs),
    /// Write the manual pages into a directory
    Man(papers::ManArgs),

    /// Make and start a container
    Run(Box<verbs::run::RunArgs>),
    /// Make a container without starting it
    Create(Box<verbs::run::CreateArgs>),
    /// List containers
    #[command(visible_alias = "list")]
    Ps(verbs::ps::PsArgs),
    /// Print what a container has printed
    Logs(verbs::logs::LogsArgs),
    /// Run a program in a running container
    Exec(verbs::exec::ExecArgs),
    /// Connect the terminal to a running container
    Attach(verbs::attach::AttachArgs),
    /// Start containers
    Start(verbs::start::StartArgs),
    /// Stop containers; without any, the daemon (its containers go on)
    Stop(verbs::life::StopArgs),
    /// Stop and start containers
    Restart(verbs::life::StopArgs),
    /// Send containers a signal
    Kill(verbs::life::KillArgs),
    /// Freeze all processes of containers
    Pause(verbs::life::NamesArgs),
    /// Let frozen containers go on
    Unpause(verbs::life::NamesArgs),
    /// Wait until containers end and print their exit codes
    Wait(verbs::life::NamesArgs),
    /// Remove containers
    Rm(verbs::life::RmArgs),
    /// Give a container another name
    Rename(verbs::life::RenameArgs),
    /// Change limits of containers
    Update(verbs::life::UpdateArgs),
    /// Processes of a container
    Top(verbs::top::TopArgs),
    /// What containers use
    Stats(verbs::stats::StatsArgs),
    /// Copy files between a container and this machine
    Cp(verbs::cp::CpArgs),
    /// Files that a container has changed
    Diff(verbs::top::DiffArgs),
    /// Published ports of a container
    Port(verbs::top::PortArgs),
    /// Make an image of a container
    Commit(verbs::images::archive::CommitArgs),
    /// Write a container's files as a tar archive
    Export(verbs::images::archive::ExportArgs),
    /// Make an image of a tar archive
    Import(verbs::images::archive::ImportArgs),
    /// Everything about containers, images, networks and volumes
    Inspect(verbs::inspect::InspectArgs),

    /// List images
    Images(verbs::images::list::ImagesArgs),
    /// Get an image from a registry
    Pull(verbs::images::transfer::PullArgs),
    /// Send an image to a registry
    Push(verbs::images::transfer::PushArgs),
    /// Give an image another name
    Tag(verbs::images::change::TagArgs),
    /// Remove images
    Rmi(verbs::images::change::RmiArgs),
    /// Write images as an archive
    Save(verbs::images::archive::SaveArgs),
    /// Read images from an archive
    Load(verbs::images::archive::LoadArgs),
    /// The layers of an image
    History(verbs::images::list::HistoryArgs),
    /// Search a registry
    Search(verbs::images::list::SearchArgs),
    /// Log in to a registry
    Login(verbs::login::LoginArgs),
    /// Forget a login
    Logout(verbs::login::LogoutArgs),

    /// Each hop a packet takes, or what drops it and why
    Explain(verbs::explain::ExplainArgs),
    /// Networks
    Network(verbs::network::NetworkArgs),
    /// Hosts of the cluster
    Host(verbs::host::HostArgs),
    /// What may pass between containers
    Policy(verbs::policy::PolicyArgs),
    /// Volumes
    Volume(verbs::volume::VolumeArgs),
    /// Disk usage, facts, events, cleaning up
    System(verbs::system::SystemArgs),
    /// Facts about the daemon and its host
    Info,
    /// Versions of this program and of the daemon
    Version,
    /// Remove what is not used: stopped containers, networks, dangling images
    Prune(verbs::system::PruneArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// What clap itself checks only where the command is built in a debug build: flags that clash, for one.
    #[test]
    fn the_line_is_sound() {
        super::Line::command().debug_assert();
    }
}
