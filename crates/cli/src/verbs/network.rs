//! `network …`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{filters, graph, netstats, network_set, prune};
use crate::{
    client::segment,
    context::Context,
    create::values::map,
    failure::usage,
    output::{
        self, Table,
        human::{self, list, text},
    },
};

#[derive(Args, Debug)]
pub struct NetworkArgs {
    #[command(subcommand)]
    command: NetworkCommand,
}

#[derive(Subcommand, Debug)]
enum NetworkCommand {
    /// List networks
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Make a network
    Create(Box<CreateArgs>),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(NamesArgs),
    /// Everything about networks
    Inspect(InspectArgs),
    /// Who is plugged into a network, where, and what is published
    Ports(PortsArgs),
    /// What passed each port of a network, what was dropped and why
    Stats(netstats::StatsArgs),
    /// Draw all networks and who is on them
    Graph(graph::GraphArgs),
    /// Grow a network's subnet, or give it a further one
    Set(network_set::SetArgs),
    /// Show or change how much may flow to and from a network or a container
    Limit(super::limit::LimitArgs),
    /// Plug a container into a network
    Connect(ConnectArgs),
    /// Unplug a container from a network
    Disconnect(DisconnectArgs),
    /// Remove networks that no container uses
    Prune(prune::Flags),
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Only what matches: name=, driver=, label=, scope=, type=, dangling=
    #[arg(short = 'f', long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short = 'q', long)]
    quiet: bool,
}

#[derive(Args, Debug)]
struct NamesArgs {
    /// Remove what exists, do not mind what does not
    #[arg(short = 'f', long)]
    force: bool,
    /// The networks
    #[arg(required = true)]
    networks: Vec<String>,
}

#[derive(Args, Debug)]
#[command(
    after_help = "It is Docker's answer, and beside it for networks whose packets this host forwards: Counters (of each port,\n\
    and what was dropped and why) and PolicyDefault (what holds for connections that no policy speaks of)."
)]
struct InspectArgs {
    /// The networks
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft network create web\n  \
    weft network create --subnet 10.9.0.0/24 --gateway 10.9.0.1 --ip-range 10.9.0.128/25 web\n  \
    weft network create --internal db")]
struct CreateArgs {
    /// Containers may be attached by hand (overlay)
    #[arg(long)]
    attachable: bool,
    /// Address that is taken: NAME=IP
    #[arg(long, value_name = "NAME=IP")]
    aux_address: Vec<String>,
    /// Take the settings of this network
    #[arg(long, value_name = "NETWORK")]
    config_from: Option<String>,
    /// Only settings, for other networks to be made from
    #[arg(long)]
    config_only: bool,
    /// Kind of the network
    #[arg(short = 'd', long, default_value = "bridge")]
    driver: String,
    /// Gateway of a subnet
    #[arg(long, value_name = "IP")]
    gateway: Vec<String>,
    /// No way out
    #[arg(long)]
    internal: bool,
    /// Range that containers get addresses from
    #[arg(long, value_name = "CIDR")]
    ip_range: Vec<String>,
    /// Address management
    #[arg(long, default_value = "default")]
    ipam_driver: String,
    /// Option of the address management
    #[arg(long, value_name = "KEY=VALUE")]
    ipam_opt: Vec<String>,
    /// IPv4 (--ipv4=false: not)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ipv4: Option<bool>,
    /// IPv6 as well (--ipv6=false: not, whatever the daemon's default)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ipv6: Option<bool>,
    /// Label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Option of the driver
    #[arg(short = 'o', long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Where the network is: local
    #[arg(long, default_value = "", hide_default_value = true)]
    scope: String,
    /// Subnet
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    /// The name
    name: String,
}

#[derive(Args, Debug)]
struct ConnectArgs {
    /// Further name on the network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Option of the driver
    #[arg(long, value_name = "KEY=VALUE")]
    driver_opt: Vec<String>,
    /// The network with the highest gives the default route
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    gw_priority: Option<i64>,
    /// IPv4 address
    #[arg(long)]
    ip: Option<String>,
    /// IPv6 address
    #[arg(long)]
    ip6: Option<String>,
    /// Link-local address
    #[arg(long, value_name = "IP")]
    link_local_ip: Vec<String>,
    /// Reach another container by a name
    #[arg(long, value_name = "CONTAINER")]
    link: Vec<String>,
    /// The network
    network: String,
    /// The container
    container: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  weft network ports web")]
struct PortsArgs {
    /// The network
    network: String,
}

#[derive(Args, Debug)]
struct DisconnectArgs {
    /// Whatever state the container is in
    #[arg(short = 'f', long)]
    force: bool,
    /// The network
    network: String,
    /// The container
    container: String,
}

/// `network …`.
pub async fn network(context: &Context, args: NetworkArgs) -> anyhow::Result<()> {
    match args.command {
        NetworkCommand::Ls(args) => ls(context, args).await,
        NetworkCommand::Create(args) => create(context, *args).await,
        NetworkCommand::Rm(args) => rm(context, args).await,
        NetworkCommand::Inspect(args) => netstats::inspect(context, &args.networks).await,
        NetworkCommand::Ports(args) => ports(context, &args.network).await,
        NetworkCommand::Stats(args) => netstats::stats(context, args).await,
        NetworkCommand::Graph(args) => graph::graph(context, args).await,
        NetworkCommand::Set(args) => network_set::set(context, args).await,
        NetworkCommand::Limit(args) => super::limit::limit(context, args).await,
        NetworkCommand::Connect(args) => connect(context, args).await,
        NetworkCommand::Disconnect(args) => {
            let path = format!("/networks/{}/disconnect", segment(&args.network));
            let body = json!({"Container": args.container, "Force": args.force});
            context.client.post(path).json(&body).done().await
        }
        NetworkCommand::Prune(flags) => prune::run(context, &[prune::NETWORKS], &flags).await,
    }
}

async fn ls(context: &Context, args: ListArgs) -> anyhow::Result<()> {
    let call = context.client.get("/networks").query_some("filters", filters(&args.filter)?);
    let mut networks: Value = call.fetch().await?;
    if context.json {
        return output::json(&networks);
    }
    if let Some(all) = networks.as_array_mut() {
        all.sort_by(|a, b| text(a, "Name").cmp(text(b, "Name")));
    }
    let id = |n: &Value| if args.no_trunc { text(n, "Id").to_owned() } else { human::short(text(n, "Id")) };
    if args.quiet {
        return list(&networks).iter().try_for_each(|n| output::line(id(n)));
    }
    let mut table = Table::new(&["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
    for n in list(&networks) {
        table.row([id(n), text(n, "Name").into(), text(n, "Driver").into(), text(n, "Scope").into()]);
    }
    table.print()
}

async fn create(context: &Context, args: CreateArgs) -> anyhow::Result<()> {
    let body = body(&args)?;
    let answer: Value = context.client.post("/networks/create").json(&body).fetch().await?;
    if let Some(warning) = answer["Warning"].as_str().filter(|w| !w.is_empty()) {
        output::note(format!("WARNING: {warning}"));
    }
    if context.json { output::json(&answer) } else { output::line(text(&answer, "Id")) }
}

fn body(args: &CreateArgs) -> anyhow::Result<Value> {
    let mut pools: Vec<Map<String, Value>> =
        args.subnet.iter().map(|s| Map::from_iter([("Subnet".to_owned(), json!(s))])).collect();
    let all = [("IPRange", &args.ip_range), ("Gateway", &args.gateway)];
    if args.subnet.is_empty() && all.iter().any(|(_, words)| !words.is_empty()) {
        return Err(usage("every ip-range or gateway must have a corresponding subnet"));
    }
    for (key, words) in all {
        for word in words {
            let pool = pools.iter_mut().find(|p| !p.contains_key(key) && holds(p, word));
            let pool = pool.ok_or_else(|| usage(format!("no matching subnet for {key} {word}")))?;
            pool.insert(key.into(), json!(word));
        }
    }
    for word in &args.aux_address {
        let (name, ip) = word
            .split_once('=')
            .ok_or_else(|| usage(format!("--aux-address {word}: NAME=IP is expected")))?;
        let pool = pools.iter_mut().find(|p| holds(p, ip));
        let pool = pool.ok_or_else(|| usage(format!("no matching subnet for aux-address {ip}")))?;
        pool.entry("AuxiliaryAddresses").or_insert_with(|| json!({}))[name] = json!(ip);
    }
    Ok(json!({
        "Name": args.name, "Driver": args.driver, "Internal": args.internal, "Attachable": args.attachable,
        "EnableIPv4": args.ipv4, "EnableIPv6": args.ipv6, "ConfigOnly": args.config_only,
        "ConfigFrom": {"Network": args.config_from.clone().unwrap_or_default()}, "Scope": args.scope, "CheckDuplicate": true, "Options": map(&args.opt), "Labels": map(&args.label),
        "IPAM": {"Driver": args.ipam_driver, "Options": map(&args.ipam_opt), "Config": pools},
    }))
}

/// Whether the pool's subnet holds an address, or a range's first address.
fn holds(pool: &Map<String, Value>, word: &str) -> bool {
    within(pool.get("Subnet").and_then(Value::as_str).unwrap_or_default(), word)
}

/// Whether a subnet holds an address, or a range's first address.
pub fn within(subnet: &str, word: &str) -> bool {
    let ip = word.split('/').next().and_then(|ip| ip.parse::<std::net::IpAddr>().ok());
    let subnet = subnet.split_once('/');
    let (Some(ip), Some((base, length))) = (ip, subnet) else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<std::net::IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    match (base, ip) {
        (std::net::IpAddr::V4(base), std::net::IpAddr::V4(ip)) => {
            length == 0 || (length <= 32 && (base.to_bits() ^ ip.to_bits()) >> (32 - length) == 0)
        }
        (std::net::IpAddr::V6(base), std::net::IpAddr::V6(ip)) => {
            length == 0 || (length <= 128 && (base.to_bits() ^ ip.to_bits()) >> (128 - length) == 0)
        }
        _ => false,
    }
}

async fn rm(context: &Context, args: NamesArgs) -> anyhow::Result<()> {
    let act = |name: &str| {
        let call = context.client.delete(format!("/networks/{}", segment(name)));
        async move {
            match call.done().await {
                Err(e) if args.force && crate::client::status_of(&e) == Some(http::StatusCode::NOT_FOUND) => {
                    Ok(())
                }
                other => other,
            }
        }
    };
    context.each(&args.networks, act).await
}

async fn ports(context: &Context, network: &str) -> anyhow::Result<()> {
    let view: Value = context.native().get(format!("/v1/networks/{}", segment(network))).fetch().await?;
    if context.json {
        return output::json(&view["ports"]);
    }
    let mut table = Table::new(&["PORT", "CONTAINER", "INTERFACE", "MAC", "ADDRESSES", "PUBLISHED"]);
    for one in list(&view["ports"]) {
        let spec = &one["port"]["spec"];
        let addresses = list(&spec["addresses"]).iter().map(|a| format!("{}/{}", text(a, "ip"), a["prefix"]));
        let published = list(&spec["publish"]).iter().map(|p| {
            let ip = text(p, "host_ip");
            let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
            let row = |port: &Value| match (port.as_u64().unwrap_or(0), p["more"].as_u64().unwrap_or(0)) {
                (first, 0) => first.to_string(),
                (first, more) => format!("{first}-{}", first + more),
            };
            format!("{ip}:{}->{}/{}", row(&p["host_port"]), row(&p["container_port"]), text(p, "protocol"))
        });
        let (addresses, published): (Vec<_>, Vec<_>) = (addresses.collect(), published.collect());
        table.row([
            human::short(text(spec, "id")),
            text(one, "container").into(),
            text(spec, "ifname").into(),
            text(spec, "mac").into(),
            addresses.join(", "),
            published.join(", "),
        ]);
    }
    table.print()
}

async fn connect(context: &Context, args: ConnectArgs) -> anyhow::Result<()> {
    let mut endpoint =
        json!({"Aliases": args.alias, "Links": args.link, "DriverOpts": map(&args.driver_opt)});
    if args.ip.is_some() || args.ip6.is_some() || !args.link_local_ip.is_empty() {
        endpoint["IPAMConfig"] = json!({
            "IPv4Address": args.ip.unwrap_or_default(), "IPv6Address": args.ip6.unwrap_or_default(),
            "LinkLocalIPs": args.link_local_ip,
        });
    }
    if let Some(priority) = args.gw_priority {
        endpoint["GwPriority"] = json!(priority);
    }
    let body = json!({"Container": args.container, "EndpointConfig": endpoint});
    context.client.post(format!("/networks/{}/connect", segment(&args.network))).json(&body).done().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn made(line: &str) -> anyhow::Result<Value> {
        body(&Line::try_parse_from(std::iter::once("create").chain(line.split_whitespace()))?.args)
    }

    #[test]
    fn pools_are_matched_to_subnets() {
        let pools = |line: &str| made(line).unwrap()["IPAM"]["Config"].clone();
        assert_eq!(pools("web"), json!([]));
        assert_eq!(
            pools("--subnet 10.1.0.0/16 --subnet fd00::/64 --gateway fd00::1 --gateway 10.1.0.9 web"),
            json!([{"Subnet": "10.1.0.0/16", "Gateway": "10.1.0.9"}, {"Subnet": "fd00::/64", "Gateway": "fd00::1"}])
        );
        assert_eq!(
            pools("--subnet 10.1.0.0/16 --ip-range 10.1.4.0/24 --aux-address r=10.1.0.5 web"),
            json!([{"Subnet": "10.1.0.0/16", "IPRange": "10.1.4.0/24", "AuxiliaryAddresses": {"r": "10.1.0.5"}}])
        );
        for line in ["--gateway 10.0.0.1 web", "--subnet 10.1.0.0/16 --gateway 10.2.0.1 web", ""] {
            assert!(made(line).is_err(), "{line:?}");
        }
        assert_eq!(made("-o a=b --internal web").unwrap()["Options"], json!({"a": "b"}));
    }
}
