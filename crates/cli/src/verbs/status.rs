//! `status`: whether the daemon answers, since when, and what it has.

use std::fs;

use serde_json::{Value, json};

use super::stop_daemon::pid_of;
use crate::{
    client::{Client, Endpoint},
    context::Context,
    failure::exit,
    output::{self, human},
};

/// Prints the daemon's state; exit code 1 when it does not answer.
pub async fn status(context: &Context) -> anyhow::Result<()> {
    let endpoint = context.client.endpoint();
    let pid = pid_of(&context.run_dir());
    let answers = async {
        let version: Value = context.client.get("/version").fetch().await?;
        let info: Value = context.client.get("/info").fetch().await?;
        anyhow::Ok((version, info))
    };
    let (version, info) = match answers.await {
        Ok(both) => both,
        Err(error) => {
            if context.json {
                output::json(
                    &json!({"running": false, "host": endpoint.to_string(), "pid": pid, "error": format!("{error:#}")}),
                )?;
            } else {
                output::line(format!("not running: {error:#}"))?;
            }
            return Err(exit(1));
        }
    };
    let count = |key: &str| info[key].as_i64().unwrap_or(0);
    let networks = count_of(&context.client, "/networks").await;
    let volumes =
        context.client.get("/volumes").fetch::<Value>().await.map(|v| human::list(&v["Volumes"]).len()).ok();
    // The daemon's own word, where we may ask for it.
    let control = Client::new(Endpoint::Unix(context.run_dir().join("control.sock")));
    let own: Value = control.get("/v1/status").fetch().await.unwrap_or_default();
    let started = pid.and_then(started);
    let report = json!({
        "running": true,
        "host": endpoint.to_string(),
        "name": info["Name"],
        "version": version["Version"],
        "api": version["ApiVersion"],
        "pid": pid,
        "started": started.map(|s| chrono::DateTime::from_timestamp(s, 0).unwrap_or_default().to_rfc3339()),
        "uptime_seconds": started.map(|s| chrono::Utc::now().timestamp() - s),
        "root": info["DockerRootDir"],
        "run": context.run_dir(),
        "containers": {"total": count("Containers"), "running": count("ContainersRunning"),
            "paused": count("ContainersPaused"), "stopped": count("ContainersStopped")},
        "images": count("Images"),
        "networks": networks,
        "volumes": volumes,
        "listeners": listeners(endpoint, pid),
        "features": own["features"],
        "faces": own["listeners"],
        "commit": version["GitCommit"],
        "built": version["BuildTime"],
        "warnings": info["Warnings"],
    });
    if context.json { output::json(&report) } else { people(&report) }
}

async fn count_of(client: &Client, path: &str) -> Option<usize> {
    client.get(path).fetch::<Value>().await.map(|v| human::list(&v).len()).ok()
}

fn people(report: &Value) -> anyhow::Result<()> {
    let text = |key: &str| human::text(report, key);
    let up =
        report["uptime_seconds"].as_i64().map_or(String::new(), |s| format!(", up {}", human::duration(s)));
    let pid = report["pid"].as_i64().map_or(String::new(), |p| format!(", pid {p}"));
    output::line(format!(
        "{}: running, version {}, API {}{pid}{up}",
        text("name"),
        text("version"),
        text("api")
    ))?;
    let c = &report["containers"];
    output::line(format!(
        "containers {} ({} running, {} paused, {} stopped), images {}, networks {}, volumes {}",
        c["total"],
        c["running"],
        c["paused"],
        c["stopped"],
        report["images"],
        report["networks"],
        report["volumes"]
    ))?;
    output::line(format!("root {}, run {}", text("root"), text("run")))?;
    let features: Vec<&str> = human::list(&report["features"]).iter().filter_map(Value::as_str).collect();
    if !features.is_empty() {
        output::line(format!("features {}", features.join(", ")))?;
    }
    let listeners = human::list(&report["listeners"]).iter().filter_map(Value::as_str);
    output::line(format!("listens on {}", listeners.collect::<Vec<_>>().join(", ")))?;
    human::list(&report["warnings"]).iter().try_for_each(|w| output::line(w.as_str().unwrap_or("")))
}

/// Seconds since 1970 at which a process started.
fn started(pid: i32) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = boot.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    let per_second = i64::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(boot + ticks / per_second)
}

/// Where the daemon listens: its sockets in `/proc`, else what we have just used.
fn listeners(used: &Endpoint, pid: Option<i32>) -> Vec<String> {
    let mut all = pid.map(sockets_of).unwrap_or_default();
    if !all.contains(&used.to_string()) {
        all.insert(0, used.to_string());
    }
    all
}

fn sockets_of(pid: i32) -> Vec<String> {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let links = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    let inodes: Vec<String> = links
        .filter_map(|l| l.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let mut found = Vec::new();
    // Flags 00010000 and state 01: a unix socket that listens.
    for line in table("unix").lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, _, "00010000", _, _, inode, path] = fields[..]
            && inodes.iter().any(|i| i == inode)
        {
            found.push(format!("unix://{path}"));
        }
    }
    for (name, v6) in [("tcp", false), ("tcp6", true)] {
        for line in table(name).lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // State 0A: a TCP socket that listens.
            if let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields[..]
                && inodes.iter().any(|i| i == inode)
            {
                found.extend(address(local, v6).map(|a| format!("tcp://{a}")));
            }
        }
    }
    found
}

/// `0100007F:1F90` as `127.0.0.1:8080`: words of the address in host order.
fn address(text: &str, v6: bool) -> Option<std::net::SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words: Vec<u32> =
        (0..ip.len() / 8).filter_map(|n| u32::from_str_radix(&ip[n * 8..n * 8 + 8], 16).ok()).collect();
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let ip: std::net::IpAddr =
        if v6 { <[u8; 16]>::try_from(bytes).ok()?.into() } else { <[u8; 4]>::try_from(bytes).ok()?.into() };
    Some((ip, u16::from_str_radix(port, 16).ok()?).into())
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_endian = "little")]
    fn kernel_addresses() {
        let shown = |t, v6| super::address(t, v6).map(|a| a.to_string());
        assert_eq!(shown("0100007F:1F90", false).as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(shown("00000000000000000000000001000000:0050", true).as_deref(), Some("[::1]:80"));
        assert_eq!(shown("zz", false), None);
    }

    #[test]
    fn own_start_is_in_the_past() {
        let me = i32::try_from(std::process::id()).unwrap();
        let now = chrono::Utc::now().timestamp();
        let started = super::started(me).unwrap();
        assert!(started <= now + 1 && started > now - 3600, "{started} {now}");
    }
}
