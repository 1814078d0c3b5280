# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by the other scripts: where things are, messages, and the build of one preset.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
jobs="${POSTHOUSE_JOBS:-$(nproc)}"

say() { printf '%s\n' "$*" >&2; }
die() {
  say "$(basename "$0"): $*"
  exit 1
}

# Names of packages.txt that dpkg does not know as installed.
missing_packages() {
  local -A present=()
  local name
  while read -r name; do present["$name"]=1; done < <(
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p'
  )
  while read -r name; do
    [[ -z "$name" || "$name" == \#* || -n "${present[$name]:-}" ]] || printf '%s\n' "$name"
  done <"$root/scripts/packages.txt"
}

as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "installing packages needs root: run this as root, install sudo, or install the packages of scripts/packages.txt"
  fi
}

# Installs what is missing. Packages that stand in the way are never removed silently.
install_packages() {
  local missing log="$root/build/packages.log"
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "setup: no apt-get here, so nothing is installed; the build needs what scripts/packages.txt lists for Debian 12"
    return 0
  fi
  mapfile -t missing < <(missing_packages)
  [[ ${#missing[@]} -gt 0 ]] || return 0
  say "setup: installing ${missing[*]}"
  mkdir -p "$root/build"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update </dev/null >"$log" 2>&1 ||
    say "setup: apt-get update failed (see $log); trying with the lists that are there"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends --no-remove \
    -o Dpkg::Use-Pty=0 install "${missing[@]}" </dev/null >>"$log" 2>&1 && return 0
  tail -n 20 "$log" >&2
  die "apt-get could not install the packages above. If it names libboost1.74-dev as a conflict, remove that package" \
      "(posthouse needs Boost 1.81, whose Describe and JSON work together) and run this again"
}

# build PRESET [TARGET…]: configures when needed and builds.
build() {
  local preset=$1 log
  shift
  mkdir -p "$root/build"
  log="$root/build/$preset.configure.log"
  (cd "$root" && cmake --preset "$preset") >"$log" 2>&1 || {
    cat "$log" >&2
    die "the configuration of preset $preset failed"
  }
  cmake --build "$root/build/$preset" --parallel "$jobs" ${1:+--target "$@"}
}
