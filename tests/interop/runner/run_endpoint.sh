#!/bin/bash
# The entry point of an endpoint of quic-interop-runner: README.md beside it says what it reads, and what
# it does in each test case.
set -euo pipefail

: "${ROLE:?client or server}" "${TESTCASE:?see README.md}"
: "${CERTS:=/certs}" "${WWW:=/www}" "${DOWNLOADS:=/downloads}" "${LOGS:=/logs}" "${QLOGDIR:=$LOGS/qlog}"
: "${PORT:=443}" "${TARGET_PORT:=4433}" "${OTHER_PORT:=4434}" "${LISTEN:=*}" "${PROGRAMS:=/usr/local/bin}"
read -ra client_params <<<"${CLIENT_PARAMS:-}"
read -ra server_params <<<"${SERVER_PARAMS:-}"

# Where the target is, as the proxy sees it: in the server's container, and nobody else's
target=127.0.0.1
# ... and where it moves to
target_moves=127.0.0.2
# What the runner does to the packets is a matter of its own: names of its cases that are others to it.
case $TESTCASE in
longrtt | amplificationlimit) TESTCASE=handshake ;;
multiplexing | blackhole | rebind-port | rebind-addr | transferloss | goodput | crosstraffic) TESTCASE=transfer ;;
handshakeloss) TESTCASE=multiconnect ;;
esac
case $TESTCASE in
handshake | transfer | multiconnect | retry | resumption | zerortt | chacha20 | keyupdate | v2 | ecn | connectionmigration | serveraltaddr) http=hq ;;
http3 | connectudp | forwarded | both) http= ;;
*) echo "run_endpoint: there is no test case '$TESTCASE' here" >&2; exit 127 ;;
esac
chacha20=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305

# Those of the network simulator's image: routes, and to wait until the simulator runs
[ ! -x /setup.sh ] || /setup.sh
mkdir -p "$QLOGDIR" "$LOGS"

# This machine's address, which a server can announce: what it listens on, or the first one.
own_address() {
  if [ "$LISTEN" != '*' ]; then echo "$LISTEN"; else hostname -I | cut -d' ' -f1; fi
}

# started PROGRAM LOG OPTION...: it runs beside this script.
programs=()
started() {
  local program=$1 log=$LOGS/$2
  shift 2
  "$PROGRAMS/$program" "$@" >>"$log" 2>&1 &
  programs+=($!)
}

server() {
  # Those that move do so at once and once, as a download may be short.
  local options=(--no-quic-dump --no-http-dump "--qlog-dir=$QLOGDIR") moves=(--migrate-after=1ms)
  local files=("--htdocs=$WWW") certificate=("$CERTS/priv.key" "$CERTS/cert.pem")
  local name=gtls${http}server
  case $TESTCASE in
  retry) options+=(--validate-addr) ;;
  chacha20) options+=("--ciphers=$chacha20") ;;
  v2) options+=(--preferred-versions=v2) ;;
  # Packets that probe the path's MTU are lost, and marks are counted only where all are there.
  ecn) options+=(--no-pmtud) ;;
  multiconnect) options+=(--timeout=180s --handshake-timeout=180s) ;;
  connectionmigration) options+=("--preferred-ipv4-addr=$(own_address):$OTHER_PORT") ;;
  serveraltaddr) options+=("--alternate-addr=$(own_address):$OTHER_PORT" "${moves[@]}") ;;
  esac
  stopped=
  trap 'stopped=1' TERM INT
  case $TESTCASE in
  connectudp | forwarded | both)
    local proxy=() behind=()
    if [ "$TESTCASE" = both ]; then
      # After the target: what is registered for that one's address is there by then.
      proxy=("--alternate-addr=$(own_address):$OTHER_PORT" --migrate-after=900ms)
      behind=("--alternate-addr=$target_moves:$TARGET_PORT" "${moves[@]}" --migrate-every=200ms)
    fi
    started gtlsserver target.log "${options[@]}" "${files[@]}" "--stats=$LOGS/target-stats.json" "${behind[@]}" \
      "$target" "$TARGET_PORT" "${certificate[@]}"
    started gtlsserver server.log "${options[@]}" --connect-udp --connect-udp-allow=127.0.0.0/8 "--stats=$LOGS/server-stats.json" \
      "${proxy[@]}" "${server_params[@]}" "$LISTEN" "$PORT" "${certificate[@]}"
    ;;
  *)
    started "$name" server.log "${options[@]}" "${files[@]}" "--stats=$LOGS/server-stats.json" "${server_params[@]}" \
      "$LISTEN" "$PORT" "${certificate[@]}"
    ;;
  esac
  # The end of one is that of all; a signal ends them in order.
  local status=0 program
  wait -n || status=$?
  kill "${programs[@]}" 2>/dev/null || true
  if [ -n "$stopped" ]; then
    status=0
    for program in "${programs[@]}"; do wait "$program" || status=$?; done
  else
    wait || true
    [ "$status" != 0 ] || status=1 # it has ended by itself
  fi
  return "$status"
}

# counted FILE PATTERN: that much is in the statistics.
counted() {
  tr -d ' \n' <"$1" | grep -qE "$2" || {
    echo "run_endpoint: $TESTCASE: $1 has nothing that matches $2" >&2
    cat "$1" >&2
    return 1
  }
}

# download NUMBER URL...: one connection, with the options of this case.
download() {
  local stats=$LOGS/client-stats$1.json
  shift
  "$PROGRAMS/gtls${http}client" "${options[@]}" "--stats=$stats" "${client_params[@]}" "${to[@]}" "$@" >>"$LOGS/client.log" 2>&1
}

client() {
  local urls host port
  read -ra urls <<<"${REQUESTS:?URLs}"
  host=${urls[0]#https://} host=${host%%/*} port=$PORT
  if [[ $host =~ ^(.*):([0-9]+)$ ]]; then host=${BASH_REMATCH[1]} port=${BASH_REMATCH[2]}; fi
  # Those that move do so at once and once, as a download may be short.
  local options=(--no-quic-dump --no-http-dump "--qlog-dir=$QLOGDIR" "--download=$DOWNLOADS" --exit-on-all-streams-close)
  local to=("$host" "$port")
  # Not local: it is removed when there is no function any more.
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  [ ! -x /wait-for-it.sh ] || /wait-for-it.sh sim:57832 -s -t 30
  case $TESTCASE in
  transfer) options+=(--max-data=128K --max-stream-data-bidi-local=64K --max-window=16M --max-stream-window=8M) ;;
  chacha20) options+=("--ciphers=$chacha20") ;;
  keyupdate) options+=(--key-update=1ms) ;;
  v2) options+=(--version=v1 "--available-versions=v2,v1") ;;
  ecn | zerortt) options+=(--no-pmtud) ;;
  serveraltaddr) options+=(--enable-server-migration) ;;
  connectudp) options+=("--proxy=https://$host:$port" --proxy-mode=tunnel "--proxy-qlog-dir=$QLOGDIR") ;;
  forwarded) options+=("--proxy=https://$host:$port" --proxy-mode=forward "--proxy-qlog-dir=$QLOGDIR") ;;
  both) options+=("--proxy=https://$host:$port" "--proxy-qlog-dir=$QLOGDIR" --enable-server-migration) ;;
  esac
  case $TESTCASE in
  connectudp | forwarded | both) to=("$target" "$TARGET_PORT") ;;
  esac

  case $TESTCASE in
  multiconnect)
    local number=0 url
    options+=(--timeout=180s --handshake-timeout=180s)
    for url in "${urls[@]}"; do download $((++number)) "$url"; done
    ;;
  resumption | zerortt)
    [ ${#urls[@]} -gt 1 ] || { echo "run_endpoint: $TESTCASE takes two files" >&2; return 1; }
    options+=("--session-file=$scratch/session" "--tp-file=$scratch/parameters" --wait-for-ticket)
    [ "$TESTCASE" = zerortt ] || options+=(--disable-early-data)
    download 1 "${urls[0]}"
    download 2 "${urls[@]:1}"
    ;;
  *) download '' "${urls[@]}" ;;
  esac

  # The runner looks at nothing of this: whether the cases of ours have happened, we say.
  local stats=$LOGS/client-stats.json some='[1-9][0-9]*'
  case $TESTCASE in
  connectudp)
    counted "$stats" "\"tunnelled_rx\":\{\"packets\":$some"
    counted "$stats" '"forwarded_rx":\{"packets":0,'
    ;;
  forwarded | both)
    counted "$stats" "\"forwarded_tx\":\{\"packets\":$some"
    counted "$stats" "\"forwarded_rx\":\{\"packets\":$some"
    ;;
  esac
  case $TESTCASE in
  serveraltaddr) counted "$stats" "\"server_migrations\":$some" ;;
  # Of the connection to the target, and of the one to the proxy
  both) counted "$stats" "\"server_migrations\":$some.*\"proxy\":.*\"server_migrations\":$some" ;;
  esac
}

# Not 127, which the shell says of a program that is not there.
for program in "gtls${http}client" "gtls${http}server"; do
  [ -x "$PROGRAMS/$program" ] || { echo "run_endpoint: there is no $PROGRAMS/$program" >&2; exit 1; }
done
case $ROLE in
client) client ;;
server) server ;;
*) echo "run_endpoint: ROLE is client or server, not '$ROLE'" >&2; exit 1 ;;
esac
