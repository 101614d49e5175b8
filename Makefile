# The front door: `make run` shows Weft at work, `make test` proves it. Both set up all they need.

PACKAGES_RUN  := busybox-static clang mold pkg-config libseccomp-dev
PACKAGES_TEST := $(PACKAGES_RUN) docker.io docker-registry nftables iproute2 iptables runc skopeo wrk jq procps \
                 python3-venv apache2-utils tini util-linux openssl curl dnsmasq-base etcd-server etcd-client
PACKAGES_BENCH := $(PACKAGES_TEST) iperf3
PACKAGES_VM   := $(PACKAGES_RUN) qemu-system-x86 binutils
CARGO         ?= cargo

.PHONY: run test vm build deps-run deps-test deps-bench clean

run: deps-run build
	@scripts/demo.sh target/release/weft

build:
	$(CARGO) build --release --locked -p weft-cli

test: deps-test
	@scripts/test.sh

# The container tests on cgroup v2, in a small machine of qemu's without KVM.
vm: build
	@scripts/packages.sh $(PACKAGES_VM)
	$(CARGO) xtask vm

deps-run:
	@scripts/packages.sh $(PACKAGES_RUN)

deps-test:
	@scripts/packages.sh $(PACKAGES_TEST)

# What `cargo xtask bench` needs.
deps-bench:
	@scripts/packages.sh $(PACKAGES_BENCH)

clean:
	$(CARGO) clean
