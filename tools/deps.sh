#!/usr/bin/env bash
# Installs the Debian packages that a build needs, when they are missing; with "test" also those of
# the tests. Clients in other languages are tested where their tools can be had: without these the
# rest goes on, and their suites say that they were skipped.
set -euo pipefail

build_packages=(gcc meson ninja-build pkg-config python3
  libnghttp2-dev libuv1-dev libssl-dev zlib1g-dev libprotobuf-c-dev protobuf-c-compiler
  librocksdb-dev libyaml-dev libzstd-dev libxxhash-dev liburing-dev)
test_packages=(libcmocka-dev python3-venv ca-certificates valgrind)

packages=("${build_packages[@]}")
if [ "${1:-build}" = test ]; then
  packages+=("${test_packages[@]}")
fi

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done

# Whoever has these from elsewhere keeps them.
optional=()
if [ "${1:-build}" = test ]; then
  command -v npm >/dev/null || optional+=(nodejs npm)
  command -v mvn >/dev/null || optional+=(default-jdk-headless maven)
fi
[ ${#missing[@]} -eq 0 ] && [ ${#optional[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] && [ ${#missing[@]} -eq 0 ]; then
  echo "not installed, their suites will be skipped: ${optional[*]}"
  exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "These Debian packages are missing; install them as root, then try again:" >&2
  echo "  apt-get install -y ${missing[*]}" >&2
  exit 1
fi
echo "installing: ${missing[*]} ${optional[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
if [ ${#missing[@]} -gt 0 ]; then
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
for p in "${optional[@]}"; do
  apt-get install -y -qq --no-install-recommends "$p" >/dev/null ||
    echo "not installed, its suite will be skipped: $p"
done
