#!/bin/sh
# Starts an image as compose.yaml does, compresses and restores a picture over HTTP, and stops it.
#   containers/check_image.sh edgegrain:cpu [ENGINE OPTION...]     ENGINE=podman for Podman; PORT [default: 8000]
# ENGINE OPTION: e.g. --gpus all
set -eu

fail() {
  echo "check_image.sh: $1" >&2
  exit 1
}

[ $# -gt 0 ] || fail "name the image to check: check_image.sh IMAGE [ENGINE OPTION...]"
image=$1
shift
engine=${ENGINE:-docker}
url=http://127.0.0.1:${PORT:-8000}
picture=$(cd "$(dirname "$0")/.." && pwd)/edgegrain/demo/portrait.jpg
work=$(mktemp -d)
container=$("$engine" run --detach --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
  --publish "127.0.0.1:${PORT:-8000}:8000" "$@" "$image")
finish() {
  status=$?
  [ $status = 0 ] || "$engine" logs "$container" >&2
  "$engine" rm --force "$container" >/dev/null
  rm -rf "$work"
  exit $status
}
trap finish EXIT
trap 'exit 1' INT TERM

tries=0
until curl --silent --fail --output /dev/null "$url/health/ready"; do
  tries=$((tries + 1))
  [ $tries -lt 300 ] || fail "$image is not ready after 300 s; its log follows"
  [ "$("$engine" inspect --format '{{.State.Running}}' "$container")" = true ] ||
    fail "the container of $image ended before it was ready; its log follows"
  sleep 1
done
curl --silent --show-error --fail --header 'Content-Type: image/jpeg' --data-binary "@$picture" \
  --output "$work/me.grain" "$url/v1/compress"
curl --silent --show-error --fail --header 'Content-Type: application/vnd.edgegrain' --data-binary "@$work/me.grain" \
  --output "$work/me.png" "$url/v1/restore"
[ "$(head -c 8 "$work/me.png" | od -An -tx1 | tr -d ' ')" = 89504e470d0a1a0a ] ||
  fail "the service restored a file that is no PNG; its log follows"
"$engine" stop --time 40 "$container" >/dev/null
[ "$("$engine" inspect --format '{{.State.ExitCode}}' "$container")" = 0 ] ||
  fail "the container did not stop with status 0; its log follows"
echo "$image: ready after $tries s; $(wc -c <"$picture") bytes, compressed $(wc -c <"$work/me.grain")," \
  "restored as a PNG of $(wc -c <"$work/me.png"); stopped with status 0"
