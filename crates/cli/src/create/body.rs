//! The flags as the body of `POST /containers/create`. A field that was not asked for is not sent.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{
    flags::{CreateFlags, IsolationFlags, LimitFlags, ResourceFlags, WatchFlags},
    mounts,
    network::networks,
    ports::ports,
    values,
};
use crate::failure::usage;

/// What is asked of the daemon, and what the client itself must know of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The request's body.
    pub body: Value,
    /// Standard input, output and error that the client is to show.
    pub attach: [bool; 3],
}

/// A JSON object that takes only what is there.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn some<T: serde::Serialize>(&mut self, key: &str, value: Option<T>) {
        if let Some(value) = value {
            self.0.insert(key.into(), json!(value));
        }
    }

    fn many<T: serde::Serialize>(&mut self, key: &str, values: &[T]) {
        self.some(key, (!values.is_empty()).then_some(values));
    }

    fn on(&mut self, key: &str, on: bool) {
        self.some(key, on.then_some(true));
    }

    fn each<T, V: serde::Serialize>(
        &mut self,
        key: &str,
        words: &[T],
        read: impl Fn(&T) -> anyhow::Result<V>,
    ) -> anyhow::Result<()> {
        let values = words.iter().map(read).collect::<anyhow::Result<Vec<V>>>()?;
        self.many(key, &values);
        Ok(())
    }
}

/// Puts the request together. `detach` is `run -d`, `cwd` makes relative paths absolute.
pub fn request(flags: &CreateFlags, words: &[String], detach: bool, cwd: &Path) -> anyhow::Result<Request> {
    let [image, command @ ..] = words else {
        return Err(usage("an image is required"));
    };
    if detach && !flags.attach.is_empty() {
        return Err(usage("--attach and --detach cannot be used together"));
    }
    let attach = attached(flags, detach)?;
    let mut config = Object::default();
    config.some("Image", Some(image));
    config.some("Hostname", flags.network.hostname.as_ref());
    config.some("Domainname", flags.network.domainname.as_ref());
    config.some("User", flags.user.as_ref());
    for (key, on) in ["AttachStdin", "AttachStdout", "AttachStderr"].iter().zip(attach) {
        config.some(key, Some(on));
    }
    config.some("Tty", Some(flags.tty));
    config.some("OpenStdin", Some(flags.interactive));
    config.some("StdinOnce", Some(flags.interactive && attach[0]));
    config.many("Env", &values::environment(&flags.env_file, &flags.env)?);
    config.many("Cmd", command);
    // An empty word empties the image's entry point.
    config.some("Entrypoint", flags.entrypoint.as_ref().map(|e| [e]));
    config.some("WorkingDir", flags.workdir.as_ref());
    config.some("Labels", Some(labels(flags)?).filter(|l| !l.is_empty()));
    config.some("StopSignal", flags.stop_signal.as_ref());
    config.some("StopTimeout", flags.stop_timeout);
    config.some("Healthcheck", health(&flags.watch)?);
    config.some("MacAddress", flags.network.mac_address.as_ref());
    let published = ports(&flags.network.publish, &flags.network.expose)?;
    let exposed: Map<String, Value> = published.exposed.iter().map(|p| (p.clone(), json!({}))).collect();
    config.some("ExposedPorts", (!exposed.is_empty()).then_some(exposed));
    let mut host = host_config(flags)?;
    host.some("PortBindings", (!published.bindings.is_empty()).then_some(published.bindings));
    files(flags, cwd, &mut config, &mut host)?;
    let (mode, endpoints) = networks(&flags.network)?;
    host.some("NetworkMode", Some(if mode.is_empty() { "default".to_owned() } else { mode }));
    config.some("HostConfig", Some(host.0));
    config.some("NetworkingConfig", Some(json!({"EndpointsConfig": endpoints})));
    Ok(Request { body: Value::Object(config.0), attach })
}

/// Docker's API has no field for a bandwidth limit: it goes as a label.
fn labels(flags: &CreateFlags) -> anyhow::Result<std::collections::BTreeMap<String, String>> {
    let mut labels = values::labels(&flags.label_file, &flags.label)?;
    for (key, rate) in [("weft.ingress", &flags.network.ingress), ("weft.egress", &flags.network.egress)] {
        labels.extend(rate.clone().map(|rate| (key.to_owned(), rate)));
    }
    Ok(labels)
}

fn attached(flags: &CreateFlags, detach: bool) -> anyhow::Result<[bool; 3]> {
    if detach {
        return Ok([false; 3]);
    }
    if flags.attach.is_empty() {
        return Ok([flags.interactive, true, true]);
    }
    let mut attach = [false; 3];
    for stream in &flags.attach {
        match stream.to_ascii_lowercase().as_str() {
            "stdin" => attach[0] = true,
            "stdout" => attach[1] = true,
            "stderr" => attach[2] = true,
            _ => return Err(usage("valid streams are STDIN, STDOUT and STDERR")),
        }
    }
    Ok(attach)
}

fn health(flags: &WatchFlags) -> anyhow::Result<Option<Value>> {
    let mut health = Object::default();
    health.some("Test", flags.health_cmd.as_ref().map(|c| json!(["CMD-SHELL", c])));
    health.some("Interval", flags.health_interval);
    health.some("Timeout", flags.health_timeout);
    health.some("StartPeriod", flags.health_start_period);
    health.some("StartInterval", flags.health_start_interval);
    health.some("Retries", flags.health_retries);
    if flags.no_healthcheck {
        if !health.0.is_empty() {
            return Err(usage("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(json!({"Test": ["NONE"]})));
    }
    Ok((!health.0.is_empty()).then_some(Value::Object(health.0)))
}

fn host_config(flags: &CreateFlags) -> anyhow::Result<Object> {
    let mut host = Object(resources(&flags.resources)?);
    host.on("AutoRemove", flags.rm);
    host.on("Init", flags.init);
    host.some("Runtime", flags.runtime.as_ref());
    host.many("GroupAdd", &flags.group_add);
    host.some("Annotations", Some(values::map(&flags.annotation)).filter(|m| !m.is_empty()));
    let log = &flags.watch;
    if log.log_driver.is_some() || !log.log_opt.is_empty() {
        let kind = log.log_driver.as_deref().unwrap_or("");
        host.some("LogConfig", Some(json!({"Type": kind, "Config": values::map(&log.log_opt)})));
    }
    let network = &flags.network;
    host.on("PublishAllPorts", network.publish_all);
    host.many("Dns", &network.dns);
    host.many("DnsSearch", &network.dns_search);
    host.many("DnsOptions", &network.dns_option);
    // `name=1.2.3.4` is the newer way to write it.
    host.each("ExtraHosts", &network.add_host, |h| {
        let (name, ip) =
            h.split_once(['=', ':']).ok_or_else(|| usage(format!("bad format for add-host: {h:?}")))?;
        Ok(format!("{name}:{}", ip.trim_start_matches('[').trim_end_matches(']')))
    })?;
    host.many("Links", &network.link);
    limits(&flags.more, &mut host)?;
    isolation(&flags.isolation, &mut host)?;
    Ok(host)
}

/// The part of a host configuration that `update` sends too.
pub(crate) fn resources(flags: &ResourceFlags) -> anyhow::Result<Map<String, Value>> {
    let mut all = Object::default();
    all.some("Memory", flags.memory);
    all.some("MemoryReservation", flags.memory_reservation);
    all.some("MemorySwap", flags.memory_swap);
    all.some("NanoCpus", flags.cpus);
    all.some("CpuShares", flags.cpu_shares);
    all.some("CpuPeriod", flags.cpu_period);
    all.some("CpuQuota", flags.cpu_quota);
    all.some("CpuRealtimePeriod", flags.cpu_rt_period);
    all.some("CpuRealtimeRuntime", flags.cpu_rt_runtime);
    all.some("CpusetCpus", flags.cpuset_cpus.as_ref());
    all.some("CpusetMems", flags.cpuset_mems.as_ref());
    all.some("PidsLimit", flags.pids_limit);
    all.some("BlkioWeight", flags.blkio_weight);
    all.some("RestartPolicy", flags.restart.as_deref().map(values::restart_policy).transpose()?);
    Ok(all.0)
}

fn limits(flags: &LimitFlags, host: &mut Object) -> anyhow::Result<()> {
    host.each("Ulimits", &flags.ulimit, |u| values::ulimit(u))?;
    host.some("ShmSize", flags.shm_size);
    host.some("MemorySwappiness", flags.memory_swappiness.filter(|s| *s >= 0));
    host.on("OomKillDisable", flags.oom_kill_disable);
    host.some("OomScoreAdj", flags.oom_score_adj);
    host.each("BlkioWeightDevice", &flags.blkio_weight_device, |w| {
        values::rate(w, values::integer).map(|(path, weight)| json!({"Path": path, "Weight": weight}))
    })?;
    for (key, words, read) in [
        ("BlkioDeviceReadBps", &flags.device_read_bps, values::bytes as fn(&str) -> Result<i64, String>),
        ("BlkioDeviceWriteBps", &flags.device_write_bps, values::bytes),
        ("BlkioDeviceReadIOps", &flags.device_read_iops, values::integer),
        ("BlkioDeviceWriteIOps", &flags.device_write_iops, values::integer),
    ] {
        host.each(key, words, |w| {
            values::rate(w, read).map(|(path, rate)| json!({"Path": path, "Rate": rate}))
        })?;
    }
    host.some("CgroupParent", flags.cgroup_parent.as_ref());
    host.some("StorageOpt", Some(values::map(&flags.storage_opt)).filter(|m| !m.is_empty()));
    Ok(())
}

fn isolation(flags: &IsolationFlags, host: &mut Object) -> anyhow::Result<()> {
    host.many("CapAdd", &flags.cap_add);
    host.many("CapDrop", &flags.cap_drop);
    host.on("Privileged", flags.privileged);
    host.each("SecurityOpt", &flags.security_opt, |o| values::security_option(o))?;
    host.some("Sysctls", Some(values::map(&flags.sysctl)).filter(|m| !m.is_empty()));
    host.some("PidMode", flags.pid.as_ref());
    host.some("IpcMode", flags.ipc.as_ref());
    host.some("UTSMode", flags.uts.as_ref());
    host.some("UsernsMode", flags.userns.as_ref());
    host.some("CgroupnsMode", flags.cgroupns.as_ref());
    Ok(())
}

fn files(flags: &CreateFlags, cwd: &Path, config: &mut Object, host: &mut Object) -> anyhow::Result<()> {
    let files = &flags.files;
    let mut binds = Vec::new();
    let mut anonymous = Map::new();
    for text in &files.volume {
        let (bind, target) = mounts::volume(text, cwd)?;
        binds.extend(bind);
        anonymous.extend(target.map(|t| (t, json!({}))));
    }
    config.some("Volumes", (!anonymous.is_empty()).then_some(anonymous));
    host.many("Binds", &binds);
    host.each("Mounts", &files.mount, |m| mounts::mount(m, cwd))?;
    let tmpfs: Map<String, Value> = files
        .tmpfs
        .iter()
        .map(|t| mounts::tmpfs(t))
        .map(|(target, options)| (target, json!(options)))
        .collect();
    host.some("Tmpfs", (!tmpfs.is_empty()).then_some(tmpfs));
    host.many("VolumesFrom", &files.volumes_from);
    host.some("VolumeDriver", files.volume_driver.as_ref());
    host.on("ReadonlyRootfs", files.read_only);
    host.each("Devices", &files.device, |d| values::device(d))?;
    host.many("DeviceCgroupRules", &files.device_cgroup_rule);
    host.some("DeviceRequests", files.gpus.as_deref().map(values::gpus).transpose()?.map(|g| [g]));
    Ok(())
}
