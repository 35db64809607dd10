#!/bin/sh
# Installs packages on Debian or Ubuntu without starting any service, now or at the next boot, and without making a default
# PostgreSQL cluster: Tollgate wants the programs only. What is changed for that is put back, also after an interruption.
# Usage, as root: apt-install.sh NAME[:LEAST_VERSION]...
# Standard output is for a program to read: "step ..." lines and apt's own status lines. Everything else: standard error.
# Exit 3: the distribution's version of a package is too old; nothing was installed.
set -eu

policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.conf
saved=.before-tollgate
mark='Written by the setup of Tollgate'
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

restore() {
  for file in "$policy" "$cluster"; do
    if [ -e "$file$saved" ]; then
      mv -f "$file$saved" "$file"
    elif grep -qs "$mark" "$file"; then
      rm -f "$file"
    fi
  done
}

forbid_service_start() {
  [ ! -e "$policy" ] || mv "$policy" "$policy$saved"
  printf '#!/bin/sh\n# %s; it takes this away again.\nexit 101\n' "$mark" >"$policy"
  chmod 755 "$policy"
}

forbid_default_cluster() {
  [ -e "$cluster" ] || return 0
  cp -p "$cluster" "$cluster$saved"
  sed -i -e '/^[#[:space:]]*create_main_cluster/d' "$cluster"
  echo 'create_main_cluster = false' >>"$cluster"
}

# The lock (descriptor 9) is not for children: one that stayed would keep it.
apt() {
  apt-get -q -y -o APT::Status-Fd=3 -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
    --no-install-recommends "$@" 3>&1 >&2 9>&-
}

is_installed() {
  dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

exec 9>/run/tollgate-setup.lock
if ! flock -n 9; then
  echo 'step wait'
  flock 9
fi
restore

missing=''
units=''
for wanted in "$@"; do
  name=${wanted%%:*}
  is_installed "$name" && continue
  missing="$missing $wanted"
  case "$name" in *-server) units="$units $name.service" ;; esac
done
[ -n "$missing" ] || exit 0
# Erlang comes with RabbitMQ and brings a service of its own.
is_installed erlang-base || units="$units epmd.socket epmd.service"

trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

echo 'step update'
apt update || echo 'apt-get update had errors; trying with what it has' >&2

names=''
for wanted in $missing; do
  name=${wanted%%:*}
  names="$names $name"
  least=${wanted#"$name"}
  # Without the epoch, which says nothing about the program.
  candidate=$(apt-cache policy "$name" | sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}//p')
  if [ -n "$least" ] && [ -n "$candidate" ] && dpkg --compare-versions "$candidate" lt "${least#:}"; then
    echo "the package $name of this system is $candidate; ${least#:} or newer is needed" >&2
    exit 3
  fi
done

echo 'step download'
apt install --download-only $names

echo 'step install'
forbid_service_start
case "$names" in
  # Its configuration file must be there before a server package reads it.
  *postgresql*) apt install postgresql-common; forbid_default_cluster ;;
esac
apt install $names

# What was not here before shall not start at the next boot either.
if command -v systemctl >/dev/null; then
  for unit in $units; do systemctl disable --quiet "$unit" 2>/dev/null || true; done
fi
