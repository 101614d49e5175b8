//! Any OCI runtime on the path (`runc`, `crun`, …), by the command line that all of them share, run in a helper process.
//!
//! The shim is a child subreaper, so the container's first process, orphaned when `create` ends, becomes its child.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use oci_spec::runtime::Spec;
use weft_sys::process::ProcessId;

use super::{
    builtin::{CONSOLE_SOCKET, write_bundle},
    helper::{Progress, Shim},
    remap,
    stdio::ContainerSide,
    types::{Created, ExecSpec, Fault, FaultKind, ShimSpec},
};

/// File the runtime writes the process id to.
const RUNTIME_PID: &str = "runtime.pid";
/// File the runtime writes its own log to.
const RUNTIME_LOG: &str = "runtime.log";

/// The program, with its first arguments.
#[derive(Clone, Copy)]
pub(super) struct Program<'a> {
    pub(super) path: &'a Path,
    pub(super) args: &'a [String],
    pub(super) state_root: &'a Path,
    /// Our directory, for the files above.
    pub(super) dir: &'a Path,
}

impl Program<'_> {
    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(self.path);
        command
            .args(self.args)
            .arg("--root")
            .arg(self.state_root)
            .arg("--log")
            .arg(self.dir.join(RUNTIME_LOG))
            .args(["--log-format", "json"])
            .arg(subcommand)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, mut command: Command) -> Result<(), Fault> {
        let program = self.path.display();
        let status = command
            .status()
            .map_err(|e| Fault::because(&format!("starting the OCI runtime {program}"), &e))?;
        if status.success() {
            return Ok(());
        }
        let log = fs::read_to_string(self.dir.join(RUNTIME_LOG)).unwrap_or_default();
        Err(classify(last_message(&log).unwrap_or_else(|| format!("{program} ended with {status}"))))
    }

    fn pid(&self) -> Result<i32, Fault> {
        let text = fs::read_to_string(self.dir.join(RUNTIME_PID))
            .map_err(|e| Fault::because("reading the runtime's pid file", &e))?;
        text.trim().parse().map_err(|e| Fault::because("reading the runtime's pid file", &e))
    }

    /// Runs `create`, waits for the word, runs `start`.
    pub(super) fn run_container(
        &self,
        spec: &ShimSpec,
        stdio: ContainerSide,
        shim: &mut Shim,
    ) -> Result<(), Fault> {
        let mut oci = Spec::load(spec.bundle.join("config.json"))
            .map_err(|e| Fault::because("reading the bundle's config.json", &e))?;
        let users = remap::join_owner(&mut oci)?;
        let bundle = match users {
            Some(_) => write_bundle(self.dir, &oci)?,
            None => spec.bundle.clone(),
        };
        let mut create = self.command("create");
        create.arg("--bundle").arg(bundle).arg("--pid-file").arg(self.dir.join(RUNTIME_PID));
        attach(&mut create, stdio, self.dir);
        create.arg(&spec.id);
        self.run(create)?;
        drop(users);
        let init =
            ProcessId::of(self.pid()?).map_err(|e| Fault::because("the container's first process", &e))?;
        shim.tell(&Progress::Created(Created { init, seccomp: None, user_namespace: false }));
        if shim.wait_for_go() {
            let mut start = self.command("start");
            start.arg(&spec.id);
            self.run(start)?;
            shim.tell(&Progress::Started(None));
        }
        Ok(())
    }

    /// Runs `exec`, detached.
    pub(super) fn run_exec(
        &self,
        container: &str,
        exec: &ExecSpec,
        stdio: ContainerSide,
        shim: &mut Shim,
    ) -> Result<(), Fault> {
        let process = self.dir.join("process.json");
        super::types::write_json(&process, &exec.process)
            .map_err(|e| Fault::because("writing the process description", &e))?;
        let mut command = self.command("exec");
        command
            .arg("--process")
            .arg(&process)
            .arg("--detach")
            .arg("--pid-file")
            .arg(self.dir.join(RUNTIME_PID));
        attach(&mut command, stdio, self.dir);
        command.arg(container);
        self.run(command)?;
        shim.tell(&Progress::Started(Some(self.pid()?)));
        Ok(())
    }

    /// Runs `delete --force`; a container that is already gone is fine.
    pub(super) fn delete(&self, id: &str) {
        let mut command = self.command("delete");
        command.args(["--force", id]).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = self.run(command);
    }

    /// Runs `update` with a resources object.
    pub(super) fn update(&self, id: &str, resources: &serde_json::Value) -> Result<(), Fault> {
        let file: PathBuf = self.dir.join("resources.json");
        super::types::write_json(&file, resources)
            .map_err(|e| Fault::because("writing the resources", &e))?;
        let mut command = self.command("update");
        command.arg("--resources").arg(file).arg(id);
        self.run(command)
    }
}

fn attach(command: &mut Command, stdio: ContainerSide, dir: &Path) {
    match stdio {
        ContainerSide::Pipes { stdin, stdout, stderr } => {
            command.stdin(stdin).stdout(stdout).stderr(stderr);
        }
        ContainerSide::Terminal => {
            let socket: &OsStr = dir.as_os_str();
            command.arg("--console-socket").arg(Path::new(socket).join(CONSOLE_SOCKET));
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
    }
}

/// The last error in a JSON log of runc's form (`{"level":"error","msg":"…"}` on each line).
fn last_message(log: &str) -> Option<String> {
    log.lines().rev().find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        (entry.get("level")?.as_str()? == "error").then_some(())?;
        Some(entry.get("msg")?.as_str()?.to_owned())
    })
}

/// The kind of a runtime's error, by the words that Docker itself goes by.
fn classify(message: String) -> Fault {
    let has = |words: &[&str]| words.iter().any(|w| message.contains(w));
    let kind = if has(&["executable file not found", "no such file or directory", "system cannot find"]) {
        FaultKind::NotFound
    } else if has(&["permission denied", "not a directory", "is a directory", "exec format error"]) {
        FaultKind::NotExecutable
    } else {
        FaultKind::Other
    };
    Fault { kind, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_classified() {
        for (log, kind) in [
            (
                r#"{"level":"error","msg":"exec: \"x\": executable file not found in $PATH"}"#,
                FaultKind::NotFound,
            ),
            (r#"{"level":"error","msg":"exec: \"/x\": permission denied"}"#, FaultKind::NotExecutable),
            (
                "{\"level\":\"error\",\"msg\":\"boom\"}\n{\"level\":\"info\",\"msg\":\"permission denied\"}",
                FaultKind::Other,
            ),
        ] {
            assert_eq!(classify(last_message(log).expect("message")).kind, kind, "{log}");
        }
        assert_eq!(last_message("not json"), None);
    }
}
