//! The processes of a container, as `ps` would list them, without running one: columns read from `/proc`.
//!
//! Understood: nothing or `-ef` (full format), `-e`/`-A`/`ax` and the like (short), `-l` is refused, `aux`/`u` (user
//! format), `-o`/`o` with a list of columns, `-o name=TITLE`, and the GNU long forms of them; `-L` shows threads. Docker runs the host's `ps` and filters by pid;
//! what is asked of it in practice is this.

use std::{collections::HashMap, fs};

use weft_model::ContainerId;

use crate::{Engine, EngineError, Result, error::blocking, types::TopTable};

/// The kernel's clock ticks a second towards programs.
const TICKS: u64 = 100;

const FULL: &str = "user=UID,pid,ppid,c,stime,tty=TTY,time,cmd";
const SHORT: &str = "pid,tty=TTY,time,comm=CMD";
/// With `-L`, a row for each thread.
const FULL_THREADS: &str = "user=UID,pid,ppid,lwp,c,nlwp,stime,tty=TTY,time,cmd";
const SHORT_THREADS: &str = "pid,lwp,tty=TTY,time,comm=CMD";
const USER: &str = "user,pid,%cpu,%mem,vsz,rss,tty=TTY,stat,start,bsdtime=TIME,args=COMMAND";

impl Engine {
    /// Lists the container's processes; `args` as for `ps` (`-ef` when empty).
    ///
    /// # Errors
    /// `NotRunning`; `Invalid` for arguments that are not understood.
    pub async fn top(&self, id: ContainerId, args: &str) -> Result<TopTable> {
        self.0.running(id).await?;
        let container = self.0.container(id).await?;
        if container.status.state == weft_model::RunState::Restarting {
            let text = format!("Container {id} is restarting, wait until the container is running");
            return Err(EngineError::Conflict(text));
        }
        let (columns, threads) = columns(args)?;
        // dockerd finds a container's rows by it.
        if columns.iter().all(|(_, title)| title != "PID") {
            return Err(EngineError::Invalid("Couldn't find PID field in ps output".into()));
        }
        let cgroup = self.0.sampler.hierarchies()?.cgroup(&self.0.cgroup(&container));
        let table = blocking(move || {
            let cgroup = cgroup.map_err(|e| EngineError::Internal(weft_base::chain(&e)))?;
            let mut pids = cgroup.pids().map_err(|e| EngineError::Internal(weft_base::chain(&e)))?;
            pids.sort_unstable();
            let host = Machine::look();
            let all = pids.into_iter().flat_map(|pid| if threads { tasks(pid) } else { vec![(pid, pid)] });
            let rows = all.filter_map(|(pid, task)| Process::read(pid, task, &host));
            let rows = rows.map(|p| columns.iter().map(|(key, _)| p.column(key, &host)).collect()).collect();
            Ok(TopTable { titles: columns.into_iter().map(|(_, title)| title).collect(), rows })
        })
        .await?;
        self.0.events.container(&container, "top", []);
        Ok(table)
    }
}

/// The threads of a process, by process and thread.
fn tasks(pid: u32) -> Vec<(u32, u32)> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut tasks: Vec<_> =
        entries.filter_map(|entry| Some((pid, entry.file_name().to_str()?.parse().ok()?))).collect();
    tasks.sort_unstable();
    tasks
}

/// Keys and titles of the wanted columns, and whether threads have rows of their own.
fn columns(args: &str) -> Result<(Vec<(String, String)>, bool)> {
    let mut threads = false;
    let mut format = String::new();
    let mut words = args.split_whitespace();
    let mut base = if args.trim().is_empty() { FULL } else { SHORT };
    let unknown = |word: &str| EngineError::Invalid(format!("ps: unsupported option {word:?}"));
    while let Some(word) = words.next() {
        let list = |rest: &str, words: &mut std::str::SplitWhitespace<'_>| {
            if rest.is_empty() { words.next().unwrap_or_default().to_owned() } else { rest.to_owned() }
        };
        if let Some(at) = word.strip_prefix("--format").map(|r| r.trim_start_matches('=')) {
            format = join(&format, &list(at, &mut words));
            continue;
        }
        if matches!(word, "--forest" | "--no-headers" | "--sort" | "-w" | "-ww" | "--everyone") {
            continue;
        }
        let letters = word.trim_start_matches('-');
        let bsd = !word.starts_with('-');
        for (at, letter) in letters.char_indices() {
            match letter {
                'o' | 'O' => {
                    format = join(&format, &list(&letters[at + 1..], &mut words));
                    break;
                }
                'u' if bsd => base = USER,
                'f' if !bsd => base = FULL,
                'e' | 'A' | 'a' | 'x' | 'w' | 'f' | 'H' | 'd' => {}
                'L' if !bsd => threads = true,
                'T' | 'm' | 'l' | 'j' | 's' | 'v' => return Err(unknown(word)),
                _ => return Err(unknown(word)),
            }
        }
    }
    let base = match base {
        FULL if threads => FULL_THREADS,
        SHORT if threads => SHORT_THREADS,
        other => other,
    };
    Ok((parse_format(if format.is_empty() { base } else { &format })?, threads))
}

fn join(one: &str, two: &str) -> String {
    if one.is_empty() { two.to_owned() } else { format!("{one},{two}") }
}

fn parse_format(format: &str) -> Result<Vec<(String, String)>> {
    let one = |word: &str| {
        let (key, title) = word.split_once('=').unwrap_or((word, ""));
        let default = title_of(key).ok_or_else(|| {
            EngineError::Invalid(format!("ps: unknown user-defined format specifier {key:?}"))
        })?;
        let title = if title.is_empty() { default } else { title };
        Ok((key.to_owned(), title.to_owned()))
    };
    format.split(',').filter(|w| !w.is_empty()).map(one).collect()
}

/// Titles of `ps` by column (procps `ps(1)`, "standard format specifiers").
fn title_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "user" | "euser" | "uname" => "USER",
        "ruser" => "RUSER",
        "group" | "egroup" => "GROUP",
        "uid" | "euid" => "UID",
        "gid" | "egid" => "GID",
        "pid" | "tgid" => "PID",
        "lwp" => "LWP",
        "tid" => "TID",
        "spid" => "SPID",
        "ppid" => "PPID",
        "pgid" | "pgrp" => "PGID",
        "sid" | "sess" => "SID",
        "c" => "C",
        "%cpu" | "pcpu" => "%CPU",
        "%mem" | "pmem" => "%MEM",
        "vsz" | "vsize" => "VSZ",
        "rss" | "rssize" => "RSS",
        "tty" | "tname" | "tt" => "TT",
        "stat" | "state" | "s" => "STAT",
        "stime" => "STIME",
        "start" | "start_time" => "START",
        "time" | "cputime" | "bsdtime" => "TIME",
        "etime" => "ELAPSED",
        "etimes" => "ELAPSED",
        "ni" | "nice" => "NI",
        "pri" => "PRI",
        "nlwp" | "thcount" => "NLWP",
        "comm" | "ucmd" | "ucomm" => "COMMAND",
        "cmd" => "CMD",
        "args" | "command" => "COMMAND",
        _ => return None,
    })
}

/// What all processes are measured against.
struct Machine {
    boot: u64,
    now: u64,
    memory: u64,
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Machine {
    fn look() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = stat.lines().find_map(|l| l.strip_prefix("btime ")).and_then(|n| n.trim().parse().ok());
        let names = |path: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = |l: &str| {
                let mut fields = l.split(':');
                let name = fields.next()?.to_owned();
                Some((fields.nth(1)?.parse().ok()?, name))
            };
            text.lines().filter_map(line).collect()
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            boot: boot.unwrap_or(0),
            now: now.as_secs(),
            memory: crate::cgroup::machine_memory().max(1),
            users: names("/etc/passwd"),
            groups: names("/etc/group"),
        }
    }
}

/// One thread of a process, the first where none is asked for, from `/proc/PID/task/TID/{stat,status,cmdline}` (proc(5)).
struct Process {
    pid: u32,
    task: u32,
    comm: String,
    args: String,
    stat: Vec<String>,
    uid: u32,
    ruid: u32,
    gid: u32,
    threads: String,
    locked: bool,
    age: u64,
    started: u64,
    cpu: u64,
}

impl Process {
    fn read(pid: u32, task: u32, host: &Machine) -> Option<Self> {
        // A process's own files sum up its threads' times.
        let dir = if pid == task { format!("/proc/{pid}") } else { format!("/proc/{pid}/task/{task}") };
        let text = fs::read_to_string(format!("{dir}/stat")).ok()?;
        let status = fs::read_to_string(format!("{dir}/status")).ok()?;
        let (head, rest) = text.rsplit_once(')')?;
        let comm = head.split_once('(')?.1.to_owned();
        // Field 3 (state) is at index 0.
        let stat: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
        let number = |n: usize| stat.get(n - 3).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim();
        let ids = |name: &str| -> Vec<u32> {
            field(name).split_whitespace().filter_map(|n| n.parse().ok()).collect()
        };
        let (uids, gids) = (ids("Uid:"), ids("Gid:"));
        let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&raw).trim_end_matches('\0').replace('\0', " ");
        let args = if args.is_empty() { format!("[{comm}]") } else { args };
        let started = host.boot + number(22) / TICKS;
        Some(Self {
            pid,
            task,
            args,
            uid: uids.get(1).copied().unwrap_or(0),
            ruid: uids.first().copied().unwrap_or(0),
            gid: gids.get(1).copied().unwrap_or(0),
            threads: number(20).to_string(),
            locked: field("VmLck:").split(' ').next().is_some_and(|n| n.parse::<u64>().is_ok_and(|n| n > 0)),
            age: host.now.saturating_sub(started),
            started,
            cpu: number(14) + number(15),
            comm,
            stat,
        })
    }

    fn field(&self, n: usize) -> &str {
        self.stat.get(n - 3).map_or("", String::as_str)
    }

    fn number(&self, n: usize) -> i64 {
        self.field(n).parse().unwrap_or(0)
    }

    fn column(&self, key: &str, host: &Machine) -> String {
        let named =
            |names: &HashMap<u32, String>, id: u32| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
        let seconds = self.cpu / TICKS;
        match key {
            "user" | "euser" | "uname" => named(&host.users, self.uid),
            "ruser" => named(&host.users, self.ruid),
            "group" | "egroup" => named(&host.groups, self.gid),
            "uid" | "euid" => self.uid.to_string(),
            "gid" | "egid" => self.gid.to_string(),
            "pid" | "tgid" => self.pid.to_string(),
            "lwp" | "tid" | "spid" => self.task.to_string(),
            "ppid" => self.field(4).to_owned(),
            "pgid" | "pgrp" => self.field(5).to_owned(),
            "sid" | "sess" => self.field(6).to_owned(),
            "c" => (self.cpu / self.age.max(1)).min(99).to_string(),
            "%cpu" | "pcpu" => tenths(self.cpu * 10 / self.age.max(1)),
            "%mem" | "pmem" => tenths(self.rss() * 1000 / host.memory),
            "vsz" | "vsize" => (self.number(23) / 1024).to_string(),
            "rss" | "rssize" => (self.rss() / 1024).to_string(),
            "tty" | "tname" | "tt" => terminal(self.number(7)),
            "s" | "state" => self.field(3).to_owned(),
            "stat" => self.state(),
            "stime" | "start" | "start_time" => start_text(self.started, host.now),
            "time" | "cputime" => {
                format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
            }
            "bsdtime" => format!("{}:{:02}", seconds / 60, seconds % 60),
            "etime" => elapsed(self.age),
            "etimes" => self.age.to_string(),
            "ni" | "nice" => self.field(19).to_owned(),
            "pri" => (39 - self.number(18)).to_string(),
            "nlwp" | "thcount" => self.threads.clone(),
            "comm" | "ucmd" | "ucomm" => self.comm.clone(),
            _ => self.args.clone(),
        }
    }

    fn rss(&self) -> u64 {
        u64::try_from(self.number(24)).unwrap_or(0) * rustix::param::page_size() as u64
    }

    fn state(&self) -> String {
        let mut text = self.field(3).to_owned();
        match self.number(19) {
            n if n < 0 => text.push('<'),
            n if n > 0 => text.push('N'),
            _ => {}
        }
        if self.locked {
            text.push('L');
        }
        if self.field(6) == self.pid.to_string() {
            text.push('s');
        }
        if self.threads != "1" {
            text.push('l');
        }
        if self.field(8) == self.field(5) {
            text.push('+');
        }
        text
    }
}

fn tenths(n: u64) -> String {
    format!("{}.{}", n / 10, n % 10)
}

/// `pts/0`, `tty1`, `?` (kernel `admin-guide/devices.rst`).
fn terminal(device: i64) -> String {
    let device = u64::try_from(device).unwrap_or(0);
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        _ => "?".to_owned(),
    }
}

fn start_text(started: u64, now: u64) -> String {
    let local = i64::try_from(started).ok().and_then(|s| chrono::DateTime::from_timestamp(s, 0));
    let Some(at) = local.map(|t| t.with_timezone(&chrono::Local)) else { return "?".into() };
    let format = if now.saturating_sub(started) < 24 * 3600 { "%H:%M" } else { "%b%d" };
    at.format(format).to_string()
}

fn elapsed(age: u64) -> String {
    let (days, hours, minutes, seconds) = (age / 86400, age / 3600 % 24, age / 60 % 60, age % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}"),
        (0, _) => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_follow_the_arguments() {
        let titles =
            |args: &str| columns(args).unwrap().0.into_iter().map(|c| c.1).collect::<Vec<_>>().join(" ");
        for (args, expected) in [
            ("", "UID PID PPID C STIME TTY TIME CMD"),
            ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-e", "PID TTY TIME CMD"),
            ("-o pid,cmd", "PID CMD"),
            ("-eo pid,user=WHO", "PID WHO"),
            ("-o pid -o args", "PID COMMAND"),
            ("-L", "PID LWP TTY TIME CMD"),
            ("-eLf", "UID PID PPID LWP C NLWP STIME TTY TIME CMD"),
            ("-eLo pid,tid,comm", "PID TID COMMAND"),
        ] {
            assert_eq!(titles(args), expected, "{args}");
        }
        assert!(columns("-o foo").is_err());
        assert!(columns("-Z").is_err());
    }

    #[test]
    fn this_process_is_listed() {
        let host = Machine::look();
        let me = Process::read(std::process::id(), std::process::id(), &host).unwrap();
        assert_eq!(me.column("pid", &host), std::process::id().to_string());
        assert_eq!(me.column("user", &host), "root");
        assert!(me.rss() > 0);
        assert_eq!(
            (terminal(0), terminal(0x8801), terminal(0x401)),
            ("?".into(), "pts/1".into(), "tty1".into())
        );
        assert_eq!(
            (elapsed(59), elapsed(3661), elapsed(90061)),
            ("00:59".into(), "01:01:01".into(), "1-01:01:01".into())
        );
    }
}
