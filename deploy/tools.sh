#!/bin/sh
# Installs what isolates functions: bubblewrap, and slirp4netns for those that may reach the internet. With the argument
# "test", also the OCI runtimes that the tests use. Without them VoltRun takes the next best, so nothing here is an error.
set -eu
test "$(uname)" = Linux || exit 0
tools="bwrap:bubblewrap slirp4netns:slirp4netns ip:iproute2"
test "${1:-}" != test || tools="$tools crun:crun runc:runc"

PATH=$PATH:/usr/sbin:/sbin
missing=
for tool in $tools; do
    command -v "${tool%%:*}" >/dev/null || missing="$missing ${tool#*:}"
done
test -n "$missing" || exit 0

if test "$(id -u)" = 0 && command -v apt-get >/dev/null; then
    echo "installing$missing"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
fi
echo "Functions are isolated best with these packages, which are not installed:$missing. (Debian and Ubuntu: sudo apt-get install$missing)" >&2
