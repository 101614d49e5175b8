//! Stopping all processes where they are, and letting them go on.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use super::hierarchy::{Cgroup, CgroupError, read, write};

/// How long the kernel may take; processes in uninterruptible sleep delay it.
const PATIENCE: Duration = Duration::from_secs(5);

impl Cgroup {
    /// Freezes all processes, and returns when they are frozen. Blocks; for use in a blocking task. When it does
    /// not succeed in time the cgroup is thawed again.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let result = self.set_frozen(true);
        if result.is_err() {
            self.set_frozen(false).ok();
        }
        result
    }

    /// Lets all processes go on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    /// All processes are frozen.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        let (file, v2) = self.state_file()?;
        state(&file, v2)
    }

    fn state_file(&self) -> Result<(std::path::PathBuf, bool), CgroupError> {
        let found = match self.v2() {
            Some(dir) => (dir, "cgroup.freeze", true),
            None => (self.v1("freezer").ok_or(CgroupError::NoController("freezer"))?, "freezer.state", false),
        };
        if !found.0.is_dir() {
            return Err(CgroupError::Gone { path: self.path.clone() });
        }
        Ok((found.0.join(found.1), found.2))
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        let (file, v2) = self.state_file()?;
        let value = match (v2, frozen) {
            (true, true) => "1",
            (true, false) => "0",
            (false, true) => "FROZEN",
            (false, false) => "THAWED",
        };
        let begun = Instant::now();
        let mut pause = Duration::from_micros(100);
        loop {
            // Version 1 needs the wish repeated: a process forked meanwhile keeps it at FREEZING.
            write(&file, value)?;
            if state(&file, v2)? == frozen {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let wanted = if frozen { "frozen" } else { "thawed" };
                return Err(CgroupError::Stuck { path: self.path.clone(), wanted });
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

fn state(file: &Path, v2: bool) -> Result<bool, CgroupError> {
    if v2 {
        let events = read(&file.with_file_name("cgroup.events"))?;
        return Ok(events.lines().any(|l| l == "frozen 1"));
    }
    Ok(read(file)?.trim() == "FROZEN")
}
