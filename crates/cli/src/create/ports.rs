//! `-p [[IP:]HOST:]PORT[/PROTOCOL]` and `--expose`, ranges included.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::failure::usage;

/// What `--publish` and `--expose` come to.
#[derive(Debug, Default)]
pub struct Ports {
    /// `80/tcp`.
    pub exposed: BTreeSet<String>,
    /// `80/tcp` to its host sides.
    pub bindings: BTreeMap<String, Vec<Value>>,
}

/// Reads both lists.
pub fn ports(publish: &[String], expose: &[String]) -> anyhow::Result<Ports> {
    let mut ports = Ports::default();
    for text in publish {
        if text.contains('=') { long(text, &mut ports)? } else { short(text, &mut ports)? }
    }
    for text in expose {
        let (range, protocol) = protocol(text)?;
        for port in span(range, text)?.0..=span(range, text)?.1 {
            ports.exposed.insert(format!("{port}/{protocol}"));
        }
    }
    Ok(ports)
}

fn protocol(text: &str) -> anyhow::Result<(&str, String)> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if ["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        Ok((rest, protocol))
    } else {
        Err(usage(format!("invalid proto: {protocol}")))
    }
}

fn span(range: &str, whole: &str) -> anyhow::Result<(u16, u16)> {
    let wrong = || usage(format!("invalid port: {whole}"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    if first > last || last == 0 { Err(wrong()) } else { Ok((first, last)) }
}

fn short(text: &str, ports: &mut Ports) -> anyhow::Result<()> {
    let (rest, protocol) = protocol(text)?;
    let (rest, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (ip, host) = match rest.rsplit_once(':') {
        // `[::1]:80:80`, or `::1:80:80` as Docker also takes it.
        Some((ip, host)) if !host.ends_with(']') => (ip.trim_start_matches('[').trim_end_matches(']'), host),
        _ if rest.ends_with(']') => (rest.trim_start_matches('[').trim_end_matches(']'), ""),
        _ => ("", rest),
    };
    add(ports, text, ip, host, container, &protocol)
}

fn long(text: &str, ports: &mut Ports) -> anyhow::Result<()> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("target", v)) => target = v,
            Some(("published", v)) => published = v,
            Some(("protocol", v)) => protocol = v,
            Some(("mode", "ingress" | "host")) => {}
            _ => return Err(usage(format!("--publish {text}: '{part}' is not understood"))),
        }
    }
    add(ports, text, "", published, target, protocol)
}

fn add(
    ports: &mut Ports,
    text: &str,
    ip: &str,
    host: &str,
    container: &str,
    protocol: &str,
) -> anyhow::Result<()> {
    if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
        return Err(usage(format!("invalid IP address: {ip}")));
    }
    let (first, last) = span(container, text)?;
    let host_span = if host.is_empty() { None } else { Some(span_or_zero(host, text)?) };
    if let Some((from, to)) = host_span
        && to - from != last - first
        && first != last
    {
        return Err(usage(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        )));
    }
    for (offset, port) in (first..=last).enumerate() {
        let host_port = match host_span {
            None => String::new(),
            // One port for one of a range: the daemon takes the first that is free.
            Some((from, to)) if first == last && from != to => format!("{from}-{to}"),
            Some((from, _)) => (usize::from(from) + offset).to_string(),
        };
        let key = format!("{port}/{protocol}");
        ports.exposed.insert(key.clone());
        ports.bindings.entry(key).or_default().push(json!({"HostIp": ip, "HostPort": host_port}));
    }
    Ok(())
}

fn span_or_zero(host: &str, text: &str) -> anyhow::Result<(u16, u16)> {
    if host == "0" { Ok((0, 0)) } else { span(host, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match ports(&[text.to_owned()], &[]) {
            Ok(ports) => {
                let one = |(k, v): (&String, &Vec<Value>)| {
                    let b = v.iter().map(|b| {
                        format!("{}|{}", b["HostIp"].as_str().unwrap(), b["HostPort"].as_str().unwrap())
                    });
                    format!("{k}={}", b.collect::<Vec<_>>().join(","))
                };
                ports.bindings.iter().map(one).collect::<Vec<_>>().join(" ")
            }
            Err(e) => format!("{e}"),
        }
    }

    #[test]
    fn notations() {
        for (text, expected) in [
            ("80", "80/tcp=|"),
            ("8080:80", "80/tcp=|8080"),
            ("0:80", "80/tcp=|0"),
            ("53:53/udp", "53/udp=|53"),
            ("127.0.0.1:8080:80", "80/tcp=127.0.0.1|8080"),
            ("127.0.0.1::80", "80/tcp=127.0.0.1|"),
            ("[::1]:8080:80", "80/tcp=::1|8080"),
            ("8000-8001:80-81", "80/tcp=|8000 81/tcp=|8001"),
            ("8000-8010:80", "80/tcp=|8000-8010"),
            ("target=80,published=8080,protocol=udp", "80/udp=|8080"),
            ("8000-8002:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000-8002"),
            ("80/xyz", "invalid proto: xyz"),
            ("x", "invalid port: x"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("70000", "invalid port: 70000"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        let exposed = ports(&[], &["80-81/udp".into()]).unwrap().exposed;
        assert_eq!(exposed.into_iter().collect::<Vec<_>>(), ["80/udp", "81/udp"]);
    }
}
