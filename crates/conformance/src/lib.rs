//! Contract suites over the wire only; the subject comes from the environment.
//!
//! `tests/docker` drives the real, unmodified `docker` client through every command group; `tests/registry` puts it
//! between registries that fail, forge, cut and ask for tokens; `tests/differential` plays one sequence of commands on
//! dockerd and on Weft and compares what the containers see of their networks;
//! `dockerpy/` holds the data for docker-py's own integration tests (`cargo xtask dockerpy`).
//! Each suite is first proved on the original: what is red on dockerd is wrong here, not there.
