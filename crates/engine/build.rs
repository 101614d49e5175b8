//! Builds the small init (`init/main.rs`) that containers get with `--init`: a static program without any library,
//! linked by the linker that comes with the compiler, so that no other toolchain is needed.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=init/main.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("docker-init");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    rustc.args([
        "--edition",
        "2024",
        "--crate-type",
        "bin",
        "--crate-name",
        "docker_init",
        "--target",
        &target,
    ]);
    for option in [
        "panic=abort",
        "opt-level=s",
        "relocation-model=static",
        "strip=symbols",
        "linker-flavor=ld.lld",
        "linker=rust-lld",
        "link-arg=-nostdlib",
        "link-arg=-static",
    ] {
        rustc.args(["-C", option]);
    }
    let status = rustc.arg("-o").arg(&out).arg("init/main.rs").status().expect("the compiler starts");
    assert!(status.success(), "the small init does not compile");
}
