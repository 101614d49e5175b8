//! The real `docker` client against a daemon, one small test for each promise.
//!
//! The subject is `WEFT_CONFORMANCE_SUBJECT` (`dockerd` or `weft`, the default), started once in a sandbox for
//! the whole binary, or whatever an outside `DOCKER_HOST` names. A test is a few lines of [`dsl`]; its marks are:
//!
//! - `alone`: it looks at or changes things of the whole daemon, so nothing runs beside it;
//! - `newer`: dockerd 20.10 lacks it, so it is left out there;
//! - `machine`: dockerd cannot do it on this project's machine (no CAP_SYS_RESOURCE), Weft must.
//!
//! Under nextest, which gives each test a process, the binary shows one test, `suite`, that runs all of them.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod attacks;
mod cgroups;
mod dsl;
mod errors;
mod exec;
mod flags;
mod images;
mod isolation;
mod life;
mod logs;
mod macvlan;
mod names;
mod network;
mod network_options;
mod options;
mod registry;
mod restarts;
mod run;
mod streams;
mod system;
mod targets;
mod transfer;
mod tty;
mod vanish;
mod verbs;
mod volumes;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, RwLock};

use dsl::{Case, T, World};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

fn cases() -> Vec<(&'static str, &'static Case)> {
    let groups: &[(&str, &[Case])] = &[
        ("attacks", attacks::CASES),
        ("cgroups", cgroups::CASES),
        ("errors", errors::CASES),
        ("exec", exec::CASES),
        ("flags", flags::CASES),
        ("images", images::CASES),
        ("isolation", isolation::CASES),
        ("life", life::CASES),
        ("logs", logs::CASES),
        ("macvlan", macvlan::CASES),
        ("names", names::CASES),
        ("network", network::CASES),
        ("network_options", network_options::CASES),
        ("options", options::CASES),
        ("registry", registry::CASES),
        ("restarts", restarts::CASES),
        ("run", run::CASES),
        ("streams", streams::CASES),
        ("system", system::CASES),
        ("targets", targets::CASES),
        ("transfer", transfer::CASES),
        ("tty", tty::CASES),
        ("vanish", vanish::CASES),
        ("verbs", verbs::CASES),
        ("volumes", volumes::CASES),
        ("wire", wire::CASES),
    ];
    groups.iter().flat_map(|(group, cases)| cases.iter().map(move |case| (*group, case))).collect()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    if std::env::var_os("NEXTEST").is_some() {
        let suite = Trial::test("suite", || {
            let conclusion = play(&Arguments { test_threads: Some(4), ..Arguments::default() });
            if conclusion.has_failed() { Err(Failed::from("see the list above")) } else { Ok(()) }
        });
        return libtest_mimic::run(&arguments, vec![suite]).exit_code();
    }
    // Most of a test's time is the daemon's and the client's: more threads than cores.
    arguments.test_threads.get_or_insert(4);
    play(&arguments).exit_code()
}

fn play(arguments: &Arguments) -> Conclusion {
    let subject = dsl::subject_name();
    // The world is made on this thread, which outlives the tests: its processes die with their parent thread.
    let world = if arguments.list { None } else { Some(Arc::new(World::new().expect("a subject"))) };
    let turn = Arc::new(RwLock::new(()));
    let trials = cases().into_iter().map(|(group, case)| {
        let (world, turn) = (world.clone(), turn.clone());
        let left_out =
            subject == "dockerd" && (case.mark("newer").is_some() || case.mark("machine").is_some());
        let label = format!("{group}::{}", case.name);
        let id = label.replace("::", "-").replace('_', "-");
        Trial::test(label, move || {
            let world = world.expect("listing runs nothing");
            let alone = case.mark("alone").is_some();
            let _all = alone.then(|| turn.write().unwrap_or_else(|poison| poison.into_inner()));
            let _one = (!alone).then(|| turn.read().unwrap_or_else(|poison| poison.into_inner()));
            let t = T::new(&world, &id);
            catch_unwind(AssertUnwindSafe(|| (case.run)(&t))).map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                Failed::from(
                    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                        .unwrap_or_default(),
                )
            })
        })
        .with_ignored_flag(left_out)
    });
    let conclusion = libtest_mimic::run(arguments, trials.collect());
    drop(world);
    conclusion
}
