#!/usr/bin/env bash
# Checks how an installation is secured (T030): secrets and tokens, what is refused, file modes, open ports, and that no
# secret is in the logs. It changes nothing; the requests that it sends are refused or read health alone.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib/checks.sh"

usage() {
    sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}"
    cat <<'END'

usage: scripts/verify-security.sh [--receive URL] [--query URL] [--emit URL] [--etc DIR] [--logs FILE]... [--json]

  --receive, --query, --emit URL  the functions that run on this host or are reached from it (none)
  --etc DIR                       this host's environment files (/etc/opshook)
  --logs FILE                     logs to search for secrets; several may be named; without one, the journal of the
                                  opshook units, where there is one
  --json                          JSON instead of lines

examples:
  sudo scripts/verify-security.sh --receive http://10.10.10.122:8080 --query http://127.0.0.1:8081
  scripts/verify-security.sh --receive http://127.0.0.1:8080 --etc /tmp/vm122/etc/opshook --logs /tmp/vm122/var/log/opshook@receive.log

A line a check: ok, FAIL or skip. Exit status: 0 all held, 1 one did not, 2 wrong usage.
END
}

refuse() { echo "scripts/verify-security.sh: $1; see --help" >&2 && exit 2; }

receive= query= emit= etc=/etc/opshook logs=()
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage && exit 0 ;;
        --json) json=true && shift ;;
        --receive | --query | --emit | --etc | --logs)
            [ $# -gt 1 ] && [ -n "$2" ] || refuse "$1 wants a value"
            case "$1" in
                --logs) [ -r "$2" ] || refuse "$2 can't be read"; logs+=("$2") ;;
                --etc) etc=$2 ;;
                *)
                    case "$2" in http://* | https://*) ;; *) refuse "$1 wants an http or https URL, not \"$2\"" ;; esac
                    printf -v "${1#--}" %s "${2%/}"
                    ;;
            esac
            shift 2
            ;;
        *) refuse "unknown argument \"$1\"" ;;
    esac
done
[ -d "$etc" ] || refuse "$etc is not there: name the folder of the environment files by --etc"
for tool in curl python3; do command -v "$tool" >/dev/null || refuse "it needs $tool"; done
files=()
for file in "$etc"/*.env; do if [ -e "$file" ]; then files+=("$file"); fi; done
[ ${#files[@]} -gt 0 ] || refuse "there is no .env file in $etc"

# The development secret, as the half of it that says so: the whole is in the examples.
development=b3BzaG9vay1kZXZlbG9wbWVudC1zZWNyZXQ
secrets=()
for file in "${files[@]}"; do
    name=$(basename "$file")
    private() { local mode; mode=$(stat -c %a "$file") && [ $((8#$mode & 8#077)) -eq 0 ] || { echo "its mode is $mode: chmod 600 $file"; return 1; }; }
    check T030 "$name is readable by its owner alone" private
    for setting_name in WEBHOOK_SECRET OPS_WEBHOOK_SECRET OPS_API_TOKEN EMIT_API_TOKEN; do
        value=$(setting "$file" "$setting_name")
        [ -n "$value" ] || continue
        read -ra values <<<"${value//,/ }"
        secrets+=("${values[@]}")
        case "$setting_name" in
            *_SECRET)
                ours() { ! grep -q "$development" <<<"$value" || { echo "make one by opshook secret new (docs/operations.md, rotate)"; return 1; }; }
                check T029 "$name: $setting_name is not the development secret" ours
                ;;
            *)
                strong() {
                    local token
                    for token in "${values[@]}"; do
                        { [ ${#token} -ge 24 ] && [ "$(fold -w1 <<<"$token" | sort -u | wc -l)" -ge 8 ]; } || { echo "a token of it is short or simple: openssl rand -hex 24"; return 1; }
                        ! grep -qiE 'change.?me|default|example|a-token|secret-token|development' <<<"$token" || { echo "it looks like one of an example: openssl rand -hex 24"; return 1; }
                    done
                }
                check T030 "$name: $setting_name is long and not a default" strong
                ;;
        esac
    done
done

if [ -n "$receive" ]; then
    onboard=$receive/api/v1/webhooks/onboard
    body='{"event":"account.created","session_id":"verify-security","domain":"verify.invalid"}'
    request POST "$onboard" 'content-type: application/json' < <(printf %s "$body")
    check T030 "an unsigned event is refused" expect 401 signature_missing
    # Signed with the development secret: who never changed it takes it.
    WEBHOOK_SECRET=whsec_${development}tb25seSE=
    headers=$(printf %s '{' | signed msg_verify-security "$(date +%s)")
    request POST "$onboard" 'content-type: application/json'$'\n'"$headers" < <(printf %s '{')
    check T029 "the development secret is refused" expect 401 signature_mismatch
    WEBHOOK_SECRET=$(setting "$etc/receive.env" WEBHOOK_SECRET 2>/dev/null || true)
    if [ -n "$WEBHOOK_SECRET" ]; then
        headers=$(printf %s "$body" | signed msg_verify-security "$(date +%s)")
        request POST "$onboard" 'content-type: application/json'$'\n'"$headers" < <(printf %s "$body ")
        check T030 "a tampered event is refused" expect 401 signature_mismatch
        headers=$(printf %s "$body" | signed msg_verify-security "$(($(date +%s) - 301))")
        request POST "$onboard" 'content-type: application/json'$'\n'"$headers" < <(printf %s "$body")
        check T030 "an event of more than five minutes ago is refused" expect 401 timestamp_out_of_tolerance
    else
        result skip T030 "tampered and stale events: WEBHOOK_SECRET is not in $etc/receive.env"
    fi
else
    result skip T030 "what receive refuses: no --receive"
fi
if [ -n "$query" ]; then
    request GET "$query/api/v1/desk/tickets" </dev/null
    check T030 "tickets are refused without a token" expect 401 token_missing
    request GET "$query/api/v1/webhooks/events" 'authorization: Bearer wrong-wrong-wrong-wrong-wrong' </dev/null
    check T030 "events are refused with a wrong token" expect 401 token_mismatch
    request GET "$query/api/v1/desk/tickets?token=x" </dev/null
    check T030 "a token in the URL does not count" expect 401 token_missing
else
    result skip T030 "what query-events refuses: no --query"
fi
if [ -n "$emit" ]; then
    case "$emit" in
        http://127.* | http://localhost* | 'http://[::1]'*) result ok T030 "emit-retry is asked on loopback" ;;
        *)
            request GET "$emit/api/v1/outbox" </dev/null
            check T030 "emit-retry is refused without a token" expect 401 token_missing
            ;;
    esac
else
    result skip T030 "emit-retry: no --emit"
fi

# Whatever listens beyond loopback on the ports of this installation: receive alone may.
if command -v ss >/dev/null; then
    listening=$(ss -Hltn 2>/dev/null | awk '{print $4}')
    for file in "${files[@]}"; do
        name=$(basename "$file" .env)
        port=$(setting "$file" LISTEN_ADDR) && port=${port##*:}
        [ "$name" = dynamodb ] && port=$(setting "$file" PORT)
        [ -n "$port" ] || continue
        open=$(grep -E ":$port\$" <<<"$listening" | grep -vE '^(127\.|\[::1\]|\[::ffff:127\.)' || true)
        case "$name" in
            receive) result ok T030 "port $port of receive: ${open:-loopback alone}" ;;
            dynamodb)
                confined() {
                    [ -z "$open" ] && return
                    systemctl show -p IPAddressDeny opshook-dynamodb.service 2>/dev/null | grep -q '::/0' && return
                    echo "it listens on $open and nothing confines it: run it by opshook-dynamodb.service, or set ENGINE=embedded"
                    return 1
                }
                check T030 "port $port of DynamoDB is reached from this host alone" confined
                ;;
            emit-retry)
                guarded() { [ -z "$open" ] || [ -n "$(setting "$file" EMIT_API_TOKEN)" ] || { echo "it listens on $open without EMIT_API_TOKEN"; return 1; }; }
                check T030 "port $port of emit-retry is on loopback, or asks for a token" guarded
                ;;
            *) result ok T030 "port $port of $name asks for a token: ${open:-loopback alone}" ;;
        esac
    done
else
    result skip T030 "open ports: there is no ss (Debian's iproute2)"
fi

searched=
if [ ${#logs[@]} -gt 0 ]; then
    searched=$(cat "${logs[@]}")
elif command -v journalctl >/dev/null; then
    searched=$(journalctl -q -o cat -u 'opshook*' -n 100000 2>/dev/null || true)
fi
if [ -n "$searched" ]; then
    silent() {
        local secret
        for secret in "${secrets[@]}"; do
            if grep -qF -e "${secret#whsec_}" <<<"$searched"; then echo "one is there: rotate it, and delete those lines"; return 1; fi
        done
    }
    check T030 "no secret or token is in the logs ($(wc -l <<<"$searched") lines)" silent
    nobody() { ! grep -qE '[A-Za-z0-9._+-]+@[A-Za-z0-9-]+\.[a-z]{2,}' <<<"$searched" || { echo "an email address is there"; return 1; }; }
    check T030 "no email address is in the logs" nobody
else
    result skip T030 "the logs: none were named by --logs, and the journal has none of opshook's"
fi
conclude
