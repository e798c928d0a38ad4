#!/bin/sh
# Make sure that the named Debian packages are there: install them when that is allowed, else say which are missing.
# usage: tools/system.sh PACKAGE...
set -eu

missing=""
if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "system packages: not Debian, so nothing is installed; needed are the equivalents of: $*"
    exit 0
fi
for package in "$@"; do
    # Debian 13 renamed some libraries to ...t64
    if ! dpkg-query -W -f='${Status}\n' "$package" "${package}t64" 2>/dev/null | grep -q 'ok installed'; then
        missing="$missing $package"
    fi
done
if [ -z "$missing" ]; then
    exit 0
fi

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    as_root="none"
fi
if [ "$as_root" != none ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing system packages:$missing"
    export DEBIAN_FRONTEND=noninteractive
    if $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null; then
        exit 0
    fi
fi
echo "These system packages are missing and could not be installed here:$missing" >&2
echo "Ask an administrator to run:  apt-get install --no-install-recommends$missing" >&2
exit 1
