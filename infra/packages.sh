#!/bin/sh
# Installs the system packages of packages.txt that are missing; without root it says the one line that does.
set -eu
cd "$(dirname "$0")/.."
missing=
for package in $(sed 's/#.*//' packages.txt); do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "The tests need these packages of Debian, or their like here:$missing" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "The tests need system packages: sudo apt-get install -y$missing" >&2
  exit 1
fi
apt-get update -qq
# shellcheck disable=SC2086  # the list is split on purpose
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
