//! The shim as a program, and small daemons around it for tests and measurements:
//! `shim container|exec DIR` · `daemon DIR SPEC` starts the container, says `up` and waits to be killed ·
//! `bench DIR BUNDLE N` prints the milliseconds from spawn to exit, N times.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use weft_engine::shim::{self, Launcher, Shim, ShimSpec};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|a| a.to_str()) {
        Some("shim") => shim::main(&args[1..]),
        Some("daemon") => block(daemon(PathBuf::from(&args[1]), PathBuf::from(&args[2]))),
        Some("bench") => {
            let rounds = args[3].to_str().unwrap().parse().unwrap();
            block(bench(PathBuf::from(&args[1]), PathBuf::from(&args[2]), rounds))
        }
        _ => ExitCode::FAILURE,
    }
}

fn block(work: impl Future<Output = ()>) -> ExitCode {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work);
    ExitCode::SUCCESS
}

fn read_spec(path: &Path) -> ShimSpec {
    shim::types::read_json(path).unwrap()
}

async fn daemon(dir: PathBuf, spec: PathBuf) {
    let launcher = Launcher::of_self(&["shim"]).unwrap();
    let shim = Shim::spawn(&launcher, &dir, &read_spec(&spec)).await.unwrap();
    shim.start().await.unwrap();
    println!("up");
    std::future::pending::<()>().await;
}

async fn bench(dir: PathBuf, spec: PathBuf, rounds: usize) {
    let launcher = Launcher::of_self(&["shim"]).unwrap();
    let mut spec = read_spec(&spec);
    let (id, cgroup) = (spec.id.clone(), spec.cgroup.clone());
    for n in 0..rounds {
        let dir = dir.join(n.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        (spec.id, spec.cgroup) = (format!("{id}-{n}"), cgroup.clone());
        let t0 = Instant::now();
        let shim = Shim::spawn(&launcher, &dir, &spec).await.unwrap();
        let created = t0.elapsed();
        shim.start().await.unwrap();
        let started = t0.elapsed();
        let exit = shim.wait().await.unwrap();
        let ended = t0.elapsed();
        println!("created {created:?} started {started:?} ended {ended:?} code {}", exit.code);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
