//! How `weft` is linked: at a fixed address.
//!
//! Each container has a shim, which is this program once more. Linked to run anywhere, each copy would write some 0.8 MB
//! of addresses into its tables when it starts, memory that no two processes can share; linked to one place, they share
//! all of it. What is given up is a random base for our own code (libraries, heap and stacks keep theirs).
//! See `docs/decisions/`.

fn main() {
    println!("cargo::rustc-link-arg-bins=-no-pie");
    println!("cargo::rerun-if-changed=build.rs");
}
