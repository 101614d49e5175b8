//! What may be typed after `run` and `create`: Docker's names and meanings.

use clap::Args;

use super::values::{bytes, bytes_or_unlimited, cpus, seconds};

/// Limits, which `update` can change later.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub struct ResourceFlags {
    /// Memory limit (64m, 2g)
    #[arg(short = 'm', long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory_reservation: Option<i64>,
    /// Memory and swap together; -1 for unlimited swap
    #[arg(long, value_name = "BYTES", value_parser = bytes_or_unlimited, allow_hyphen_values = true)]
    pub memory_swap: Option<i64>,
    /// Number of CPUs (0.5, 2)
    #[arg(long, value_name = "N", value_parser = cpus)]
    pub cpus: Option<i64>,
    /// CPU shares, relative to other containers
    #[arg(short = 'c', long, value_name = "N")]
    pub cpu_shares: Option<i64>,
    /// Microseconds of a CPU period
    #[arg(long, value_name = "N")]
    pub cpu_period: Option<i64>,
    /// Microseconds of CPU in a period
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Real-time period in microseconds
    #[arg(long, value_name = "N")]
    pub cpu_rt_period: Option<i64>,
    /// Real-time runtime in microseconds
    #[arg(long, value_name = "N")]
    pub cpu_rt_runtime: Option<i64>,
    /// CPUs to run on (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Greatest number of processes; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Block I/O weight, 10 to 1000
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<u16>,
    /// What happens when it ends: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
}

/// Everything else.
#[derive(Args, Clone, Debug, Default)]
pub struct CreateFlags {
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Set an environment variable: NAME=VALUE, or NAME to hand ours on
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Working directory inside
    #[arg(short = 'w', long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User: name or uid, with group: USER[:GROUP]
    #[arg(short = 'u', long, value_name = "USER")]
    pub user: Option<String>,
    /// Further groups
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Program that runs instead of the image's entry point; "" for none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Keep standard input open
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Attach to stdin, stdout or stderr
    #[arg(short = 'a', long, value_name = "STREAM")]
    pub attach: Vec<String>,
    /// Set a label: KEY=VALUE
    #[arg(short = 'l', long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<String>,
    /// Remove it (and its anonymous volumes) when it ends
    #[arg(long)]
    pub rm: bool,
    /// Run a small init that forwards signals and reaps processes
    #[arg(long)]
    pub init: bool,
    /// Pull the image before: always, missing, never
    #[arg(long, default_value = "missing", value_parser = ["always", "missing", "never"])]
    pub pull: String,
    /// Print no progress of the pull
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Platform of the image, such as linux/arm64
    #[arg(long)]
    pub platform: Option<String>,
    /// Write the container's id to a file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<std::path::PathBuf>,
    /// Signal that stops it
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds until a stop becomes a kill
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub stop_timeout: Option<i64>,
    /// OCI runtime
    #[arg(long)]
    pub runtime: Option<String>,
    /// Annotation for the OCI runtime: KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    #[command(flatten)]
    pub resources: ResourceFlags,
    #[command(flatten)]
    pub more: LimitFlags,
    #[command(flatten)]
    pub files: FileFlags,
    #[command(flatten)]
    pub network: NetworkFlags,
    #[command(flatten)]
    pub isolation: IsolationFlags,
    #[command(flatten)]
    pub watch: WatchFlags,
}

/// Limits that stay as they are.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// Limit of a process: NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT")]
    pub ulimit: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub shm_size: Option<i64>,
    /// Swappiness, 0 to 100
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub memory_swappiness: Option<i64>,
    /// Do not kill it for lack of memory
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// Preference for being killed for lack of memory, -1000 to 1000
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub oom_score_adj: Option<i64>,
    /// Block I/O weight of a device: PATH:WEIGHT
    #[arg(long, value_name = "DEVICE:N")]
    pub blkio_weight_device: Vec<String>,
    /// Read rate of a device: PATH:BYTES
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_read_bps: Vec<String>,
    /// Write rate of a device: PATH:BYTES
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_write_bps: Vec<String>,
    /// Reads each second from a device: PATH:N
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_read_iops: Vec<String>,
    /// Writes each second to a device: PATH:N
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_write_iops: Vec<String>,
    /// Parent cgroup
    #[arg(long, value_name = "CGROUP")]
    pub cgroup_parent: Option<String>,
    /// Option of the storage driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub storage_opt: Vec<String>,
}

/// Mounts and devices.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Files and devices")]
pub struct FileFlags {
    /// Mount a directory or volume: [SOURCE:]TARGET[:ro,z,…]
    #[arg(short = 'v', long, value_name = "[SRC:]DST")]
    pub volume: Vec<String>,
    /// Mount, in the long notation: type=bind,src=/a,dst=/b,ro
    #[arg(long, value_name = "MOUNT")]
    pub mount: Vec<String>,
    /// Mount a tmpfs: TARGET[:options]
    #[arg(long, value_name = "DST")]
    pub tmpfs: Vec<String>,
    /// Take over the volumes of a container
    #[arg(long, value_name = "CONTAINER")]
    pub volumes_from: Vec<String>,
    /// Driver of the volumes that are made
    #[arg(long, value_name = "DRIVER")]
    pub volume_driver: Option<String>,
    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Give it a device: HOST[:INSIDE[:rwm]]
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// Allow devices: 'c 1:3 rwm'
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
    /// Give it GPUs: all, N or device=…
    #[arg(long, value_name = "REQUEST")]
    pub gpus: Option<String>,
}

/// Networks, names and ports.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub struct NetworkFlags {
    /// Publish a port: [[IP:]HOST:]PORT[/tcp|udp]
    #[arg(short = 'p', long, value_name = "PORT")]
    pub publish: Vec<String>,
    /// Publish all exposed ports to free ones
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<String>,
    /// Network: a name, host, none, container:NAME, or name=N,alias=A,ip=…
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Further name on its network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// IPv4 address
    #[arg(long)]
    pub ip: Option<String>,
    /// IPv6 address
    #[arg(long)]
    pub ip6: Option<String>,
    /// Link-local address
    #[arg(long, value_name = "IP")]
    pub link_local_ip: Vec<String>,
    /// Most that each interface may receive, such as 8mbit (a label, weft.ingress)
    #[arg(long, value_name = "RATE")]
    pub ingress: Option<String>,
    /// Most that each interface may send (a label, weft.egress)
    #[arg(long, value_name = "RATE")]
    pub egress: Option<String>,
    /// MAC address
    #[arg(long, value_name = "MAC")]
    pub mac_address: Option<String>,
    /// Host name inside
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Domain name inside
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Line for /etc/hosts: NAME:ADDRESS
    #[arg(long, value_name = "NAME:IP")]
    pub add_host: Vec<String>,
    /// Name server
    #[arg(long, value_name = "IP")]
    pub dns: Vec<String>,
    /// Search domain
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Option of the resolver
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Reach another container by a name: CONTAINER[:NAME]
    #[arg(long, value_name = "CONTAINER")]
    pub link: Vec<String>,
}

/// What keeps it apart.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Isolation")]
pub struct IsolationFlags {
    /// Add a capability
    #[arg(long, value_name = "CAP")]
    pub cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAP")]
    pub cap_drop: Vec<String>,
    /// All capabilities and devices
    #[arg(long)]
    pub privileged: bool,
    /// seccomp=FILE|unconfined, no-new-privileges, …
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Kernel parameter: NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Process namespace: host, container:NAME
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// IPC namespace: private, shareable, host, none, container:NAME
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// UTS namespace: host
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// User namespace: host
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Cgroup namespace: host, private
    #[arg(long, value_name = "MODE")]
    pub cgroupns: Option<String>,
}

/// Logs and health.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Logs and health")]
pub struct WatchFlags {
    /// Log driver: json-file, local, none, journald, syslog
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// Option of the log driver: NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    pub log_opt: Vec<String>,
    /// Command that checks its health
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between checks (10s, 1m30s)
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub health_interval: Option<i64>,
    /// Longest check
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub health_timeout: Option<i64>,
    /// Failures in a row until unhealthy
    #[arg(long, value_name = "N")]
    pub health_retries: Option<i64>,
    /// Time in which failures do not count
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub health_start_period: Option<i64>,
    /// Time between checks in that period
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub health_start_interval: Option<i64>,
    /// No health checks, whatever the image says
    #[arg(long)]
    pub no_healthcheck: bool,
}
