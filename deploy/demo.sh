#!/usr/bin/env bash
# Runs the demo against the server on PORT, or against one of its own that ends with it.
set -euo pipefail
cd "$(dirname "$0")/.."
port=${PORT:-8080}

if bin/voltrun projections status --url "http://127.0.0.1:$port" >/dev/null 2>&1; then
    exec bin/voltrun demo --url "http://127.0.0.1:$port"
fi

log=$(mktemp)
echo "No server runs on port $port; starting one for the demo (its log: $log)."
PORT=$port bin/voltrun serve 2>"$log" &
server=$!
stop() {
    kill -INT "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    rm -f "$log"
}
trap stop EXIT

until bin/voltrun projections status --url "http://127.0.0.1:$port" >/dev/null 2>&1; do
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$log"
        echo "If a server runs on another port, say which: PORT=... make demo"
        exit 1
    fi
    sleep 0.1
done
bin/voltrun demo --url "http://127.0.0.1:$port"
