//! What goes on around the process: its log, its restarts, its health.

use weft_model::{HealthCheck, HealthTest, LogConfig, RestartMode, RestartPolicy};

use crate::{
    containers::wire::{HealthConfig, HostConfig, RestartPolicyWire},
    error::{ApiError, Result},
};

pub(super) fn log_config(host: &HostConfig) -> Option<LogConfig> {
    let log = &host.log_config;
    (!log.kind.is_empty() || !log.config.is_empty())
        .then(|| LogConfig { driver: log.kind.clone(), options: log.config.clone() })
}

/// A restart policy; also part of an update.
pub(in crate::containers) fn restart_policy(
    policy: &RestartPolicyWire,
    auto_remove: bool,
) -> Result<RestartPolicy> {
    let mode = match policy.name.as_str() {
        "" | "no" => RestartMode::No,
        "always" => RestartMode::Always,
        "unless-stopped" => RestartMode::UnlessStopped,
        "on-failure" => RestartMode::OnFailure,
        other => {
            return Err(ApiError::bad_request(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            )));
        }
    };
    let retries = policy.maximum_retry_count;
    if retries < 0 {
        return Err(ApiError::bad_request(
            "invalid restart policy: maximum retry count cannot be negative".into(),
        ));
    }
    if retries > 0 && mode != RestartMode::OnFailure {
        return Err(ApiError::bad_request(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'".into(),
        ));
    }
    if auto_remove && mode != RestartMode::No {
        return Err(ApiError::bad_request("can't create 'AutoRemove' container with restart policy".into()));
    }
    Ok(RestartPolicy { mode, max_retries: u32::try_from(retries).unwrap_or(u32::MAX) })
}

/// `None` means: the image's.
pub(super) fn health(config: &HealthConfig) -> Result<Option<HealthCheck>> {
    const SHORTEST: i64 = 1_000_000;
    for (name, value) in [
        ("Interval", config.interval),
        ("Timeout", config.timeout),
        ("StartPeriod", config.start_period),
        ("StartInterval", config.start_interval),
    ] {
        if value != 0 && value < SHORTEST {
            return Err(ApiError::bad_request(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if config.retries < 0 {
        return Err(ApiError::bad_request("Retries in Healthcheck cannot be negative".into()));
    }
    let test = match config.test.split_first() {
        None => None,
        Some((kind, rest)) => Some(match kind.as_str() {
            "NONE" => HealthTest::Disabled,
            "CMD" => HealthTest::Exec(rest.to_vec()),
            "CMD-SHELL" => HealthTest::Shell(rest.first().cloned().unwrap_or_default()),
            other => return Err(ApiError::bad_request(format!("unknown type '{other}' in Healthcheck"))),
        }),
    };
    let any_time =
        config.interval | config.timeout | config.start_period | config.start_interval | config.retries;
    if test.is_none() && any_time == 0 {
        return Ok(None);
    }
    Ok(Some(HealthCheck {
        // An empty exec form asks for the image's test with these times.
        test: test.unwrap_or(HealthTest::Exec(Vec::new())),
        interval: config.interval,
        timeout: config.timeout,
        retries: config.retries,
        start_period: config.start_period,
        start_interval: config.start_interval,
    }))
}
