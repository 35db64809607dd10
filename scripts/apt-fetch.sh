#!/bin/sh
# Takes one program out of a package of Debian or Ubuntu without installing the package. Needs root only where the package lists
# are missing or old. Usage: apt-fetch.sh PACKAGE PROGRAM TARGET, e.g. apt-fetch.sh prometheus ./usr/bin/promtool ~/bin/promtool
set -eu
package=$1
program=$2
target=$3

apt() {
  apt-get -q -o Acquire::http::Timeout=20 -o Acquire::Retries=1 -o DPkg::Lock::Timeout=120 "$@" >&2
}

update() {
  if [ "$(id -u)" = 0 ]; then
    apt update
  else
    sudo -n apt-get -q update >&2
  fi
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
cd "$folder"

apt download "$package" || { update && apt download "$package"; }
dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x -O "$program" >program
chmod 755 program
mkdir -p "$(dirname "$target")"
# Whole or not at all, for whoever looks meanwhile.
mv program "$target.new"
mv -f "$target.new" "$target"
