#!/usr/bin/env bash
# Start Docker if need be, build both images, and run the container tests; called by `make test-containers`.
# Where Docker cannot run it says so, and the tests are skipped. What it started it stops.
#
#   BASE=image    what the images are built on. If it is not given and Docker Hub is out of reach, an image of
#                 Debian's own Python 3.11 stands in for the one that the Dockerfiles name (root on Debian 12).
set -euo pipefail
cd "$(dirname "$0")/.."

STAND_IN=undercut-base:bookworm
LOG=$(mktemp -d)
daemon=""

stop() {
  if [ -n "$daemon" ]; then
    kill "$daemon" 2>/dev/null && wait "$daemon" || true
  fi
}
trap stop EXIT

say() { printf '%s\n' "$*" >&2; }

install() {
  apt-get update --quiet --quiet
  DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends "$@" >"$LOG/apt.log" 2>&1 ||
    { tail -5 "$LOG/apt.log" >&2; return 1; }
}

# A daemon of ours: installed where absent, started, and waited for.
start_docker() {
  docker info >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] || { say "Docker does not answer, and only root can start it."; return 1; }
  if ! command -v dockerd >/dev/null; then
    command -v apt-get >/dev/null || { say "Docker is not installed, and there is no apt-get."; return 1; }
    install docker.io || { say "Docker cannot be installed."; return 1; }
    sleep 2
    docker info >/dev/null 2>&1 && return # where there is systemd, the package has started it
  fi
  pgrep -x dockerd >/dev/null || rm -f /var/run/docker.pid
  dockerd >"$LOG/dockerd.log" 2>&1 &
  daemon=$!
  for _ in $(seq 60); do
    docker info >/dev/null 2>&1 && return
    kill -0 "$daemon" 2>/dev/null || break
    sleep 1
  done
  say "Docker does not start: $(tail -1 "$LOG/dockerd.log")"
  return 1
}

# An image in the place of python:3.11-slim-bookworm, out of Debian's packages.
stand_in() {
  docker image inspect "$STAND_IN" >/dev/null 2>&1 && return
  command -v mmdebstrap >/dev/null || install mmdebstrap || return
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' bookworm "$LOG/base.tar" /etc/apt/sources.list.d/debian.sources || return
  docker import --change 'CMD ["python3"]' "$LOG/base.tar" "$STAND_IN" >/dev/null || return
  rm "$LOG/base.tar"
}

if start_docker; then
  if [ -z "${BASE:-}" ]; then
    named=$(sed -n 's/^ARG BASE=//p' images/train/Dockerfile)
    docker image inspect "$named" >/dev/null 2>&1 || timeout 120 docker pull --quiet "$named" >/dev/null 2>&1 ||
      { stand_in && export BASE=$STAND_IN; }
  fi
  # The wheels come from wherever this machine's pip finds them; the build itself then needs no network.
  make --no-print-directory wheelhouse
  make --no-print-directory images PIP_NO_INDEX=1 ${BASE:+BASE="$BASE"}
  docker image prune --force --filter until=24h >/dev/null
fi
"${BIN:-.venv/bin}"/python -m pytest -m container -rs "$@"
