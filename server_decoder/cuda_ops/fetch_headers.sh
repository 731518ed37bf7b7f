#!/bin/sh
# ONNX Runtime's C and C++ headers, which none of its Python packages holds, from Debian trixie's libonnxruntime-dev.
#   fetch_headers.sh OUT   ->   OUT/include/onnxruntime/*.h   (API 21: for ONNX Runtime 1.22 and newer)
# Uses the Debian mirror of the machine's own release; needs apt and dpkg, no root.
set -eu

out=$1
fail() {
  cat >&2 <<TEXT
fetch_headers.sh: $1
Take the headers from elsewhere and name their folder: ONNXRUNTIME_INCLUDE_DIR=DIR make ops
DIR must hold onnxruntime_cxx_api.h. They are in Debian's and Ubuntu's libonnxruntime-dev, in Homebrew's onnxruntime, and
in the archives at https://github.com/microsoft/onnxruntime/releases (folder include); they must not be newer than the
ONNX Runtime that loads the library.
TEXT
  exit 1
}

command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "this machine has no apt-get and dpkg"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/sources"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$(sed -nE 's/^URIs: *([^ ]*debian\/?).*/\1/p; s/^deb .*(https?:[^ ]*debian\/?) .*/\1/p' \
  /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v security | head -n 1)
[ -e "$keyring" ] || fail "this machine has no keys of Debian ($keyring)"
printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' \
  "${mirror:-http://deb.debian.org/debian}" "$keyring" >"$work/sources/trixie.sources"
apt() {
  apt-get -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" -o Dir::State::Lists="$work/lists" \
    -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=1 \
    -o Acquire::http::Timeout=20 -qq "$@" >&2
}
apt update || fail "the package list of Debian trixie could not be fetched"
(cd "$work" && apt download libonnxruntime-dev) || fail "libonnxruntime-dev could not be fetched"
dpkg -x "$work"/libonnxruntime-dev_*.deb "$work/package"
mkdir -p "$out/include"
rm -rf "$out/include/onnxruntime"
cp -r "$work/package/usr/include/onnxruntime" "$out/include/"
echo "fetch_headers.sh: $out/include/onnxruntime"
