//! Command lines and the parts of the request they must become.

use std::path::Path;

use clap::Parser;
use serde_json::{Value, json};

use super::{CreateFlags, request};

#[derive(Parser)]
#[command(disable_help_flag = true)]
struct Line {
    #[arg(short = 'd', long)]
    detach: bool,
    #[command(flatten)]
    flags: CreateFlags,
    #[arg(trailing_var_arg = true, required = true)]
    words: Vec<String>,
}

fn body(line: &str) -> anyhow::Result<Value> {
    let words = std::iter::once("run").chain(line.split_whitespace());
    let line = Line::try_parse_from(words)?;
    Ok(request(&line.flags, &line.words, line.detach, Path::new("/work"))?.body)
}

/// `line` must become a request that has `expected` at the JSON pointer.
#[track_caller]
fn check(line: &str, pointer: &str, expected: &Value) {
    let body = body(line).unwrap();
    assert_eq!(body.pointer(pointer).unwrap_or(&Value::Null), expected, "{line} at {pointer} of {body}");
}

#[test]
fn process_flags() {
    for (line, pointer, expected) in [
        ("img", "/Image", json!("img")),
        ("img", "/Cmd", json!(null)),
        ("img sh -c -d", "/Cmd", json!(["sh", "-c", "-d"])),
        ("img --rm", "/Cmd", json!(["--rm"])),
        ("--entrypoint sh img -c x", "/Entrypoint", json!(["sh"])),
        ("-e A=1 -e B= img", "/Env", json!(["A=1", "B="])),
        ("-w /x -u 1:2 img", "/WorkingDir", json!("/x")),
        ("-w /x -u 1:2 img", "/User", json!("1:2")),
        ("-l a=1 --label b img", "/Labels", json!({"a": "1", "b": ""})),
        ("-it img", "/Tty", json!(true)),
        ("-it img", "/StdinOnce", json!(true)),
        ("-di img", "/StdinOnce", json!(false)),
        ("-d img", "/AttachStdout", json!(false)),
        ("img", "/AttachStdout", json!(true)),
        ("-a stderr img", "/AttachStdout", json!(false)),
        ("--stop-signal INT --stop-timeout 3 img", "/StopTimeout", json!(3)),
        (
            "--health-cmd true --health-interval 2s img",
            "/Healthcheck",
            json!({"Test": ["CMD-SHELL", "true"], "Interval": 2_000_000_000}),
        ),
        ("--no-healthcheck img", "/Healthcheck/Test", json!(["NONE"])),
        ("-h box img", "/Hostname", json!("box")),
    ] {
        check(line, pointer, &expected);
    }
}

#[test]
fn host_flags() {
    for (line, pointer, expected) in [
        ("--rm img", "/HostConfig/AutoRemove", json!(true)),
        ("img", "/HostConfig/AutoRemove", json!(null)),
        ("--init img", "/HostConfig/Init", json!(true)),
        ("-m 64m img", "/HostConfig/Memory", json!(64 << 20)),
        ("--memory-swap -1 img", "/HostConfig/MemorySwap", json!(-1)),
        ("--cpus 1.5 img", "/HostConfig/NanoCpus", json!(1_500_000_000)),
        ("--pids-limit -1 img", "/HostConfig/PidsLimit", json!(-1)),
        ("--ulimit nofile=1:2 img", "/HostConfig/Ulimits", json!([{"Name": "nofile", "Soft": 1, "Hard": 2}])),
        ("--sysctl net.a=1 img", "/HostConfig/Sysctls", json!({"net.a": "1"})),
        (
            "--restart on-failure:3 img",
            "/HostConfig/RestartPolicy",
            json!({"Name": "on-failure", "MaximumRetryCount": 3}),
        ),
        (
            "--log-driver local --log-opt max-size=1m img",
            "/HostConfig/LogConfig",
            json!({"Type": "local", "Config": {"max-size": "1m"}}),
        ),
        ("--cap-add NET_ADMIN --cap-drop ALL img", "/HostConfig/CapAdd", json!(["NET_ADMIN"])),
        ("--privileged --read-only img", "/HostConfig/ReadonlyRootfs", json!(true)),
        ("--device /dev/a:/dev/b:r img", "/HostConfig/Devices/0/CgroupPermissions", json!("r")),
        (
            "--device-read-bps /dev/a:1mb img",
            "/HostConfig/BlkioDeviceReadBps",
            json!([{"Path": "/dev/a", "Rate": 1 << 20}]),
        ),
        ("--security-opt no-new-privileges img", "/HostConfig/SecurityOpt", json!(["no-new-privileges"])),
        ("--pid host --ipc none --uts host img", "/HostConfig/UTSMode", json!("host")),
        ("--gpus all img", "/HostConfig/DeviceRequests/0/Count", json!(-1)),
    ] {
        check(line, pointer, &expected);
    }
}

#[test]
fn mounts_and_networks() {
    for (line, pointer, expected) in [
        ("-v /a:/b -v /c img", "/HostConfig/Binds", json!(["/a:/b"])),
        ("-v /a:/b -v /c img", "/Volumes", json!({"/c": {}})),
        ("-v ./a:/b img", "/HostConfig/Binds", json!(["/work/a:/b"])),
        ("--tmpfs /t:size=1m img", "/HostConfig/Tmpfs", json!({"/t": "size=1m"})),
        ("--mount dst=/x img", "/HostConfig/Mounts/0/Target", json!("/x")),
        (
            "-p 8080:80 img",
            "/HostConfig/PortBindings",
            json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}),
        ),
        ("-p 8080:80 --expose 9 img", "/ExposedPorts", json!({"80/tcp": {}, "9/tcp": {}})),
        ("img", "/HostConfig/NetworkMode", json!("default")),
        ("--network web img", "/HostConfig/NetworkMode", json!("web")),
        ("--net web --network-alias db img", "/NetworkingConfig/EndpointsConfig/web/Aliases", json!(["db"])),
        (
            "--network web --ip 10.0.0.9 img",
            "/NetworkingConfig/EndpointsConfig/web/IPAMConfig",
            json!({"IPv4Address": "10.0.0.9"}),
        ),
        (
            "--network name=a,alias=x --network b img",
            "/NetworkingConfig/EndpointsConfig",
            json!({"a": {"Aliases": ["x"]}, "b": {}}),
        ),
        (
            "--add-host a:1.2.3.4 --add-host b=::1 img",
            "/HostConfig/ExtraHosts",
            json!(["a:1.2.3.4", "b:::1"]),
        ),
        ("--dns 9.9.9.9 --dns-search x.org img", "/HostConfig/Dns", json!(["9.9.9.9"])),
        ("--mac-address 02:42:ac:11:00:02 img", "/MacAddress", json!("02:42:ac:11:00:02")),
    ] {
        check(line, pointer, &expected);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "-d -a stdin img",
        "-a nowhere img",
        "--no-healthcheck --health-cmd x img",
        "--ulimit nofile img",
        "--ulimit nofile=3:2 img",
        "--device a:b:c:d img",
        "--network-alias x img",
        "--network name=a --network a img",
        "--restart on-failure:x img",
        "--add-host nothing img",
        "--memory lots img",
        "--pull sometimes img",
        "--no-such-flag img",
        "",
    ] {
        assert!(body(line).is_err(), "{line:?} should be refused");
    }
}
