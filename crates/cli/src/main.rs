//! The `weft` binary: the daemon, its shims and the command line that speaks to it.
//!
//! What is executed by the daemon itself (`shim`, `init`) is told apart first, before any thread or runtime exists. All
//! else is a line for `args`, carried out by `host` (this machine) or `verbs` (over the Docker API).

mod args;
mod client;
mod context;
mod create;
mod failure;
#[cfg(feature = "daemon")]
mod host;
mod output;
mod papers;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Command, Line};
use context::Context;
use failure::Failure;

fn main() -> ExitCode {
    #[cfg(feature = "daemon")]
    if let Some(code) = host::hidden() {
        return code;
    }
    // clap itself exits with 2 for wrong usage, and 0 for --help and --version.
    match carry_out(Line::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        if let Some(message) = &failure.message {
            output::note(format!("weft: {message}"));
        }
        return ExitCode::from(failure.code);
    }
    output::note(format!("weft: {}", weft_base::chain(error.as_ref())));
    ExitCode::FAILURE
}

fn carry_out(line: Line) -> anyhow::Result<()> {
    #[cfg(feature = "daemon")]
    let command = match line.command {
        Command::Up(args) => return host::up::up(*args, line.run),
        Command::Doctor(args) => return host::doctor::doctor(&args, line.run.as_deref(), line.json),
        Command::Feature(args) => return host::feature::feature(&args, line.run.as_deref(), line.json),
        Command::Store(args) => return host::store::store(args, line.run.as_deref(), line.json),
        other => other,
    };
    #[cfg(not(feature = "daemon"))]
    let command = line.command;
    match command {
        Command::Completion(args) => return papers::completion(&args),
        Command::Man(args) => return papers::man(&args),
        _ => {}
    }
    let context = Context::new(line.host.as_deref(), line.run, line.json)?;
    if let Command::Logout(args) = &command {
        return verbs::login::logout(&context, args);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(Box::pin(verb(&context, command)));
    // A thread may be waiting for input that nobody wants any more.
    runtime.shutdown_background();
    done
}

async fn verb(context: &Context, command: Command) -> anyhow::Result<()> {
    use verbs::{
        attach, cp, events, exec, explain, images, inspect, life, login, logs, metrics, network, ps, run,
        start, stats, status, system, top, volume,
    };
    match command {
        Command::Status => status::status(context).await,
        Command::Metrics(args) => metrics::metrics(context, args).await,
        Command::Events(args) => events::events(context, args).await,
        Command::Run(args) => run::run(context, *args).await,
        Command::Create(args) => run::create(context, *args).await,
        Command::Ps(args) => ps::ps(context, args).await,
        Command::Logs(args) => logs::logs(context, args).await,
        Command::Exec(args) => exec::exec(context, args).await,
        Command::Attach(args) => attach::attach(context, args).await,
        Command::Start(args) => start::start(context, args).await,
        Command::Stop(args) => life::stop(context, "/stop", args).await,
        Command::Restart(args) => life::stop(context, "/restart", args).await,
        Command::Kill(args) => life::kill(context, args).await,
        Command::Pause(args) => life::plain(context, "/pause", args).await,
        Command::Unpause(args) => life::plain(context, "/unpause", args).await,
        Command::Wait(args) => life::wait(context, args).await,
        Command::Rm(args) => life::rm(context, args).await,
        Command::Rename(args) => life::rename(context, args).await,
        Command::Update(args) => life::update(context, args).await,
        Command::Top(args) => top::top(context, args).await,
        Command::Stats(args) => stats::stats(context, args).await,
        Command::Cp(args) => cp::cp(context, args).await,
        Command::Diff(args) => top::diff(context, args).await,
        Command::Port(args) => top::port(context, args).await,
        Command::Commit(args) => images::archive::commit(context, args).await,
        Command::Export(args) => images::archive::export(context, args).await,
        Command::Import(args) => images::archive::import(context, args).await,
        Command::Inspect(args) => inspect::inspect(context, args).await,
        Command::Images(args) => images::list::images(context, args).await,
        Command::Pull(args) => images::transfer::pull(context, args).await,
        Command::Push(args) => images::transfer::push(context, args).await,
        Command::Tag(args) => images::change::tag(context, args).await,
        Command::Rmi(args) => images::change::rmi(context, args).await,
        Command::Save(args) => images::archive::save(context, args).await,
        Command::Load(args) => images::archive::load(context, args).await,
        Command::History(args) => images::list::history(context, args).await,
        Command::Search(args) => images::list::search(context, args).await,
        Command::Login(args) => login::login(context, args).await,
        Command::Explain(args) => explain::explain(context, args).await,
        Command::Network(args) => network::network(context, args).await,
        Command::Host(args) => verbs::host::host(context, args).await,
        Command::Policy(args) => verbs::policy::policy(context, args).await,
        Command::Volume(args) => volume::volume(context, args).await,
        Command::System(args) => system::system(context, args).await,
        Command::Info => system::info(context).await,
        Command::Version => system::version(context).await,
        Command::Prune(args) => system::prune_all(context, args).await,
        // Those need no daemon and are done by now.
        Command::Completion(_) | Command::Man(_) | Command::Logout(_) => Ok(()),
        #[cfg(feature = "daemon")]
        Command::Up(_) | Command::Doctor(_) | Command::Feature(_) | Command::Store(_) => Ok(()),
    }
}
