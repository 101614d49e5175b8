//! `system …`, `info`, `version`, `prune`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{events, prune};
use crate::{
    context::Context,
    output::{
        self, Table,
        human::{self, list, text},
    },
};

#[derive(Args, Debug)]
pub struct SystemArgs {
    #[command(subcommand)]
    command: SystemCommand,
}

#[derive(Subcommand, Debug)]
enum SystemCommand {
    /// What uses the disk
    Df(DfArgs),
    /// Facts about the daemon and its host
    Info,
    /// What happens, as it happens
    Events(events::EventsArgs),
    /// Remove what is not used
    Prune(PruneArgs),
}

#[derive(Args, Debug)]
struct DfArgs {
    /// Each image, container and volume
    #[arg(short = 'v', long)]
    verbose: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft prune\n  weft prune -af --volumes --filter until=24h")]
pub struct PruneArgs {
    /// All images without a container, not only those without a name
    #[arg(short = 'a', long)]
    all: bool,
    /// Anonymous volumes, too
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    flags: prune::Flags,
}

/// `system …`.
pub async fn system(context: &Context, args: SystemArgs) -> anyhow::Result<()> {
    match args.command {
        SystemCommand::Df(args) => df(context, &args).await,
        SystemCommand::Info => info(context).await,
        SystemCommand::Events(args) => events::events(context, args).await,
        SystemCommand::Prune(args) => prune_all(context, args).await,
    }
}

/// `prune`.
pub async fn prune_all(context: &Context, args: PruneArgs) -> anyhow::Result<()> {
    let mut kinds = vec![prune::CONTAINERS, prune::NETWORKS];
    if args.volumes {
        kinds.push(prune::VOLUMES);
    }
    kinds.push(if args.all { prune::ALL_IMAGES } else { prune::IMAGES });
    prune::run(context, &kinds, &args.flags).await
}

async fn df(context: &Context, args: &DfArgs) -> anyhow::Result<()> {
    let usage: Value = context.client.get("/system/df").fetch().await?;
    if context.json {
        return output::json(&usage);
    }
    let number = |v: &Value, key: &str| v[key].as_f64().unwrap_or(0.0).max(0.0);
    let (images, containers, volumes) =
        (list(&usage["Images"]), list(&usage["Containers"]), list(&usage["Volumes"]));
    let sum = |all: &mut dyn Iterator<Item = f64>| all.sum::<f64>();
    let running = |c: &&Value| text(c, "State") == "running";
    let used_volume = |v: &&Value| number(&v["UsageData"], "RefCount") > 0.0;
    let size = |v: &Value| number(&v["UsageData"], "Size");
    let layers = number(&usage, "LayersSize");
    let used = sum(&mut images
        .iter()
        .filter(|i| number(i, "Containers") > 0.0)
        .map(|i| number(i, "Size") - number(i, "SharedSize")));
    let cell = |total: f64, free: f64| {
        let share = if total > 0.0 { format!(" ({:.0}%)", free / total * 100.0) } else { String::new() };
        (human::size(total), format!("{}{share}", human::size(free)))
    };
    let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    let mut add = |name: &str, total: usize, active: usize, (size, free): (String, String)| {
        table.row([name.into(), total.to_string(), active.to_string(), size, free]);
    };
    let active = images.iter().filter(|i| number(i, "Containers") > 0.0).count();
    add("Images", images.len(), active, cell(layers, (layers - used).max(0.0)));
    let all = sum(&mut containers.iter().map(|c| number(c, "SizeRw")));
    let stopped = sum(&mut containers.iter().filter(|c| !running(c)).map(|c| number(c, "SizeRw")));
    add("Containers", containers.len(), containers.iter().filter(running).count(), cell(all, stopped));
    let all = sum(&mut volumes.iter().map(size));
    let idle = sum(&mut volumes.iter().filter(|v| !used_volume(v)).map(size));
    add("Local Volumes", volumes.len(), volumes.iter().filter(used_volume).count(), cell(all, idle));
    table.print()?;
    if args.verbose { details(images, containers, volumes) } else { Ok(()) }
}

fn details(images: &[Value], containers: &[Value], volumes: &[Value]) -> anyhow::Result<()> {
    let size = |v: &Value| human::size(v.as_f64().unwrap_or(0.0).max(0.0));
    let first = |v: &Value| {
        list(v).first().and_then(Value::as_str).unwrap_or("<none>").trim_start_matches('/').to_owned()
    };
    output::line("\nImages:\n")?;
    let mut table = Table::new(&["IMAGE", "IMAGE ID", "SIZE", "SHARED SIZE", "CONTAINERS"]);
    for i in images {
        let count = i["Containers"].as_i64().unwrap_or(0).to_string();
        table.row([
            first(&i["RepoTags"]),
            human::short(text(i, "Id")),
            size(&i["Size"]),
            size(&i["SharedSize"]),
            count,
        ]);
    }
    table.print()?;
    output::line("\nContainers:\n")?;
    let mut table = Table::new(&["CONTAINER ID", "NAME", "IMAGE", "STATUS", "SIZE"]);
    for c in containers {
        let (id, status) = (human::short(text(c, "Id")), text(c, "Status").to_owned());
        table.row([id, first(&c["Names"]), text(c, "Image").into(), status, size(&c["SizeRw"])]);
    }
    table.print()?;
    output::line("\nVolumes:\n")?;
    let mut table = Table::new(&["VOLUME NAME", "LINKS", "SIZE"]);
    for v in volumes {
        let links = v["UsageData"]["RefCount"].as_i64().unwrap_or(0).to_string();
        table.row([text(v, "Name").into(), links, size(&v["UsageData"]["Size"])]);
    }
    table.print()
}

/// `info`.
pub async fn info(context: &Context) -> anyhow::Result<()> {
    let info: Value = context.client.get("/info").fetch().await?;
    if context.json {
        return output::json(&info);
    }
    let plain = |key: &str| match &info[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut rows = vec![
        ("Server version", plain("ServerVersion")),
        ("Name", plain("Name")),
        ("ID", plain("ID")),
        (
            "Containers",
            format!(
                "{} ({} running, {} paused, {} stopped)",
                plain("Containers"),
                plain("ContainersRunning"),
                plain("ContainersPaused"),
                plain("ContainersStopped")
            ),
        ),
        ("Images", plain("Images")),
        ("Storage driver", plain("Driver")),
        ("Logging driver", plain("LoggingDriver")),
        ("Cgroups", format!("{}, version {}", plain("CgroupDriver"), plain("CgroupVersion"))),
        ("Default runtime", plain("DefaultRuntime")),
        ("Networks", words(&info["Plugins"]["Network"])),
        ("Security", words(&info["SecurityOptions"])),
        ("Kernel", plain("KernelVersion")),
        ("System", format!("{} ({})", plain("OperatingSystem"), plain("Architecture"))),
        ("CPUs", plain("NCPU")),
        ("Memory", human::binary_size(info["MemTotal"].as_f64().unwrap_or(0.0))),
        ("Root", plain("DockerRootDir")),
        ("Mirrors", words(&info["RegistryConfig"]["Mirrors"])),
        ("Labels", words(&info["Labels"])),
    ];
    rows.retain(|(_, value)| !value.is_empty());
    for (key, value) in rows {
        output::line(format!("{:<17} {value}", format!("{key}:")))?;
    }
    list(&info["Warnings"]).iter().for_each(|w| output::note(w.as_str().unwrap_or("")));
    Ok(())
}

fn words(value: &Value) -> String {
    list(value).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// `version`: ours, and the daemon's if there is one.
pub async fn version(context: &Context) -> anyhow::Result<()> {
    let client = json!({"Version": env!("CARGO_PKG_VERSION"), "Os": std::env::consts::OS, "Arch": std::env::consts::ARCH});
    let server = context.client.get("/version").fetch::<Value>().await;
    if context.json {
        return output::json(&json!({"Client": client, "Server": server.as_ref().ok()}));
    }
    output::line(format!("Client: weft {}", env!("CARGO_PKG_VERSION")))?;
    let server = server?;
    output::line(format!(
        "Server: {} {} (API {}, at least {}; {}/{}; kernel {})",
        server["Platform"]["Name"].as_str().filter(|n| !n.is_empty()).unwrap_or("daemon"),
        text(&server, "Version"),
        text(&server, "ApiVersion"),
        text(&server, "MinAPIVersion"),
        text(&server, "Os"),
        text(&server, "Arch"),
        text(&server, "KernelVersion"),
    ))
}
