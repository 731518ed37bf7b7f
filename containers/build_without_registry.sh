#!/bin/sh
# Builds the container files where package mirrors can be reached but no container registry, and no engine is installed.
set -eu

usage() {
  cat <<TEXT
build_without_registry.sh [--work DIR] [--ca FILE] cpu|cuda [BUILDAH OPTION...]

Makes stand-ins for the base images from packages, then builds containers/Dockerfile.cpu or Dockerfile.cuda on them
with buildah, as localhost/edgegrain:cpu or :cuda. Such an image is for tests of the container files, not for
deployment. The stand-ins:

  python:3.12-slim      Debian trixie with its Python (3.13)
  debian:trixie-slim    Debian trixie
  nvidia/cuda:...       Ubuntu 24.04 with CUDA 13.0 and cuDNN 9 from NVIDIA's packages on PyPI

  --work DIR   folder for the stand-ins' file systems, kept for the next build [default: build/containers]
  --ca FILE    PEM file of all certificates to trust, for machines behind a proxy with its own authority
  BUILDAH OPTION   e.g. --build-arg CUDA_ARCHITECTURES=90

Needs root, debootstrap, buildah, and for cuda the package ubuntu-keyring (Debian 12 takes that of Debian 13). Where no
namespaces or overlays are allowed, set BUILDAH_ISOLATION=chroot and STORAGE_DRIVER=vfs.
TEXT
}

fail() {
  echo "build_without_registry.sh: $1" >&2
  exit 1
}

repository=$(cd "$(dirname "$0")/.." && pwd)
work=$repository/build/containers
ca=
while [ $# -gt 0 ]; do
  case $1 in
    --work) work=$2; shift 2 ;;
    --ca) ca=$2; shift 2 ;;
    -h|--help) usage; exit ;;
    *) break ;;
  esac
done
kind=${1:-}
case $kind in cpu|cuda) shift ;; *) usage >&2; exit 2 ;; esac
[ "$(id -u)" = 0 ] || fail "debootstrap needs root"
for tool in debootstrap buildah; do
  command -v $tool >/dev/null || fail "$tool is not installed"
done
# debootstrap does not check the signatures of a release whose keys are missing.
[ "$kind" = cpu ] || [ -f /usr/share/keyrings/ubuntu-archive-keyring.gpg ] || fail "ubuntu-keyring is not installed"
[ -z "$ca" ] || [ -f "$ca" ] || fail "there is no file $ca"
mkdir -p "$work"

# bootstrap NAME SUITE MIRROR SCRIPT COMPONENTS: the image localhost/NAME, of a release's smallest system.
bootstrap() {
  buildah inspect --type image "localhost/$1" >/dev/null 2>&1 && return
  if [ ! -e "$work/$2/complete" ]; then
    rm -rf "${work:?}/$2"
    debootstrap --variant=minbase --include=ca-certificates --components="$5" "$2" "$work/$2/root" "$3" "$4"
    rm -rf "$work/$2"/root/var/cache/apt/archives/*.deb "$work/$2"/root/dev/*
    if [ -n "$ca" ]; then
      cp "$ca" "$work/$2/root/etc/ssl/certs/ca-certificates.crt"
      printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$work/$2/root/etc/pip.conf"
    fi
    touch "$work/$2/complete"
  fi
  tar -C "$work/$2/root" --numeric-owner -cf "$work/$2.tar" .
  printf 'FROM scratch\nADD %s.tar /\nCMD ["sh"]\n' "$2" >"$work/$2.containerfile"
  buildah build --tag "localhost/$1" --file "$work/$2.containerfile" "$work"
  rm "$work/$2.tar"
}

# derive NAME: the image localhost/NAME, of the container file on the standard input.
derive() {
  cat >"$work/derived.containerfile"
  buildah build --layers --tag "localhost/$1" --file "$work/derived.containerfile" "$work"
}

debian=debian:trixie-slim
bootstrap $debian trixie http://deb.debian.org/debian sid main
if [ "$kind" = cpu ]; then
  derive python:3.12-slim <<TEXT
FROM localhost/$debian
RUN apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /usr/local
TEXT
  set -- --build-arg PYTHON_IMAGE=localhost/python:3.12-slim "$@"
else
  bootstrap ubuntu:24.04 noble http://archive.ubuntu.com/ubuntu gutsy main,universe
  derive cuda:devel <<TEXT
FROM localhost/ubuntu:24.04
RUN apt-get update && apt-get install --yes --no-install-recommends g++ python3-venv && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /nvidia \
    && /nvidia/bin/pip install --no-cache-dir nvidia-cuda-nvcc==13.0.* nvidia-cuda-crt==13.0.* nvidia-nvvm==13.0.* \
        nvidia-cuda-runtime==13.0.* nvidia-cuda-cccl==13.0.* \
    && ln -s /nvidia/lib/python3.12/site-packages/nvidia/cu13 /usr/local/cuda && ln -s lib /usr/local/cuda/lib64
ENV PATH=/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
TEXT
  derive cuda:runtime <<TEXT
FROM localhost/ubuntu:24.04
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /nvidia \
    && /nvidia/bin/pip install --no-cache-dir nvidia-cuda-runtime==13.0.* nvidia-cublas==13.0.* nvidia-cufft==12.0.* \
        nvidia-curand==10.4.0.* nvidia-cudnn-cu13==9.* \
    && ls -d /nvidia/lib/python3.12/site-packages/nvidia/*/lib >/etc/ld.so.conf.d/cuda.conf && ldconfig
TEXT
  # DECODER because buildah 1.28, Debian 12's, builds no stage that only the default of an ARG names.
  set -- --build-arg DEBIAN_IMAGE=localhost/$debian --build-arg DEVEL_IMAGE=localhost/cuda:devel \
    --build-arg RUNTIME_IMAGE=localhost/cuda:runtime --build-arg DECODER=fused "$@"
fi
# --no-cache because buildah keeps the layer of a RUN whose mounted stage has changed.
buildah build --layers --no-cache --format docker --tag "localhost/edgegrain:$kind" \
  --file "$repository/containers/Dockerfile.$kind" "$@" "$repository"
