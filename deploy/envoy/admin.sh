#!/bin/bash
# Speaks to Envoy's administration by what its image has, which is bash and no curl.
#
#   admin.sh ready                  ends with status 0 while Envoy takes calls
#   admin.sh drain PAUSE DEADLINE   has clients go elsewhere; ends when no call is in flight any more, or the deadline
#                                   is over; both in seconds
set -u

ask() {
  exec 3<>"/dev/tcp/127.0.0.1/${ENVOY_ADMIN_PORT:-9901}" || return
  printf '%s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n' "$1" >&3
  cat <&3
  exec 3>&-
}

case ${1:-} in
  ready)
    ask 'GET /ready' | grep -q '^LIVE'
    ;;
  drain)
    # Until whoever balances in front has taken this one off its list, new connections are welcome.
    sleep "$2"
    # From now on each answer says that the connection ends with it, and `ready` says no.
    ask 'POST /healthcheck/fail' >/dev/null
    ask 'POST /drain_listeners?graceful&skip_exit' >/dev/null
    deadline=$((SECONDS + $3))
    # An Envoy that does not answer is gone, and nobody waits for it.
    while ask 'GET /stats?filter=%5Ehttp%5C.public%5C.downstream_rq_active%24' | grep -q 'rq_active: [1-9]'; do
      ((SECONDS < deadline)) || exit 1
      sleep 0.5
    done
    ;;
  *)
    echo "usage: $0 ready | drain PAUSE DEADLINE" >&2
    exit 64
    ;;
esac
