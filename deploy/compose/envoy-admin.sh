#!/bin/bash
# Speaks to Envoy's administration by what its image has, which is bash: `ready` ends with status 0 when Envoy serves,
# `drain` when no call is in flight any more, or almost all of the grace is over that docker-compose.yml gives.

admin=${ENVOY_ADMIN:-127.0.0.1/9901}

ask() {
  exec 3<>"/dev/tcp/$admin" || exit 1
  printf '%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" >&3
  cat <&3
}

case $1 in
  ready)
    ask 'GET /ready' | grep -q '^LIVE'
    ;;
  drain)
    # Whoever is connected is asked to go; a load balancer in front is told by the health check.
    ask 'POST /healthcheck/fail' >/dev/null
    ask 'POST /drain_listeners?graceful&skip_exit' >/dev/null
    for _ in {1..40}; do
      ask 'GET /stats?filter=^http\.public\.downstream_rq_active$' | grep -q 'rq_active: 0' && exit
      sleep 1
    done
    ;;
  *)
    echo "usage: $0 ready|drain" >&2
    exit 64
    ;;
esac
