#!/usr/bin/env bash
# Installs the Debian packages that a build (or the tests) need, when they are missing.
set -euo pipefail

build_packages=(gcc meson ninja-build pkg-config python3
  libnghttp2-dev libuv1-dev libssl-dev zlib1g-dev libprotobuf-c-dev protobuf-c-compiler
  librocksdb-dev libyaml-dev libzstd-dev libxxhash-dev)
test_packages=(clang llvm libclang-rt-14-dev libcmocka-dev python3-venv)

packages=("${build_packages[@]}")
if [ "${1:-build}" = test ]; then
  packages+=("${test_packages[@]}")
fi

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "These Debian packages are missing; install them as root, then try again:" >&2
  echo "  apt-get install -y ${missing[*]}" >&2
  exit 1
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
