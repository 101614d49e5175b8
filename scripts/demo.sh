#!/usr/bin/env bash
# The main job, for real: a daemon, an image out of this machine's busybox, two containers that talk by name on a
# network of their own, and a published port. Run again, it starts from what is there.
set -euo pipefail
weft=$(readlink -f "${1:-target/release/weft}")
root=${WEFT_ROOT:-/var/lib/weft}
run=${WEFT_RUN:-/run/weft}
port=${WEFT_DEMO_PORT:-8080}
export WEFT_HOST="unix://$run/docker.sock"

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

say "the daemon"
if "$weft" version >/dev/null 2>&1; then
    echo "running already ($run)"
else
    "$weft" up --detach --root "$root" --run "$run"
    echo "ready: $run/docker.sock"
fi

say "an image, from busybox"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{bin,etc,tmp,www}
cp /bin/busybox "$tree/bin/"
for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -sf busybox "$tree/bin/$applet"; done
echo 'root:x:0:0:root:/:/bin/sh' >"$tree/etc/passwd"
echo 'root:x:0:' >"$tree/etc/group"
echo 'hello from a Weft container' >"$tree/www/index.html"
tar -C "$tree" -c . | "$weft" import - demo:latest

say "a network and two containers on it"
"$weft" rm -f demo-web demo-client >/dev/null 2>&1 || true
"$weft" network rm demo >/dev/null 2>&1 || true
"$weft" network create demo
"$weft" run -d --name demo-web --network demo -p "$port:80" demo:latest httpd -f -p 80 -h /www
"$weft" run --rm --name demo-client --network demo demo:latest sh -c \
    'for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -O - http://demo-web/ && exit; sleep 0.2; done; exit 1'

say "the published port, from the host"
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET / HTTP/1.0\r\n\r\n' >&3
tail -n 1 <&3
exec 3>&-

say "what runs"
"$weft" ps

cat <<EOT

Next, with the docker client you have:
  export DOCKER_HOST=$WEFT_HOST
  docker ps
  docker logs demo-web
  docker run --rm -it --network demo demo:latest sh
or with Weft's own verbs:
  $weft --help
  $weft doctor
  $weft stop          # the daemon ends, demo-web goes on; \`$weft up --detach\` finds it again
EOT
