#!/usr/bin/env bash
# Before Envoy is told to end: has it tell its clients to go elsewhere, and waits until nobody is served any more.
# Without curl, which its image does not have.
set -u
port="${1:-9901}"

admin() {
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return
  printf '%s %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n' "$1" "$2" >&3
  cat <&3
  exec 3>&-
}

# Time for whoever balances in front to take this replica off its list: until then new connections are welcome.
sleep "${DRAIN_LEAVE_SECONDS:-5}"
admin POST '/drain_listeners?graceful&skip_exit' >/dev/null
while admin GET '/stats?filter=%5Ehttp%5C.public%5C.downstream_rq_active%24' | grep -q 'downstream_rq_active: [1-9]'; do
  sleep 1
done
