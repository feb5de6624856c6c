#!/usr/bin/env bash
# Sends marked events through a running installation and checks what ops has of them: health, a signed event, its
# duplicate, the ticket, the session, and what must be refused. Safe in production: the ticket it makes is of the session
# verify-… and the domain verify.invalid, and it closes it at the end.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib/checks.sh"

usage() {
    sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"
    cat <<'END'

usage: scripts/verify-webhook.sh [--receive URL] [--query URL] [--emit URL] [--portal URL] [--env FILE]... [--json]

  --receive URL  receive (http://127.0.0.1:8080)
  --query URL    query-events (http://127.0.0.1:8081); --query none where it can't be reached from here
  --emit URL     emit-retry: an event goes through it too (none)
  --portal URL   the portal, for its health (none)
  --env FILE     an environment file of the functions with WEBHOOK_SECRET, OPS_API_TOKEN or EMIT_API_TOKEN; several may
                 be named; without one they come from the environment
  --json         JSON instead of lines

examples:
  . .opshook/settings.env; export WEBHOOK_SECRET OPS_API_TOKEN; scripts/verify-webhook.sh --emit http://127.0.0.1:8082
  sudo scripts/verify-webhook.sh --receive http://10.10.10.122:8080 \
    --env /etc/opshook/receive.env --env /etc/opshook/query-events.env

A line a check: ok, FAIL or skip, the task of the original list that asks for it, and what was seen.
Exit status: 0 all held, 1 one did not, 2 wrong usage or a missing secret.
END
}

refuse() { echo "scripts/verify-webhook.sh: $1; see --help" >&2 && exit 2; }

receive=http://127.0.0.1:8080 query=http://127.0.0.1:8081 emit= portal=
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage && exit 0 ;;
        --json) json=true && shift ;;
        --receive | --query | --emit | --portal | --env)
            [ $# -gt 1 ] && [ -n "$2" ] || refuse "$1 wants a value"
            case "$1" in
                --env)
                    [ -r "$2" ] || refuse "$2 can't be read"
                    for name in WEBHOOK_SECRET OPS_WEBHOOK_SECRET OPS_API_TOKEN EMIT_API_TOKEN; do
                        value=$(setting "$2" "$name")
                        if [ -n "$value" ]; then printf -v "$name" %s "$value"; fi
                    done
                    ;;
                *)
                    case "$2" in http://* | https://* | none) ;; *) refuse "$1 wants an http or https URL, not \"$2\"" ;; esac
                    printf -v "${1#--}" %s "${2%/}"
                    ;;
            esac
            shift 2
            ;;
        *) refuse "unknown argument \"$1\"" ;;
    esac
done
if [ "$query" = none ]; then query=; fi
WEBHOOK_SECRET=${WEBHOOK_SECRET:-${OPS_WEBHOOK_SECRET:-}}
[ -n "$WEBHOOK_SECRET" ] || refuse "WEBHOOK_SECRET is in neither the environment nor an --env file"
[ -z "$query" ] || [ -n "${OPS_API_TOKEN:-}" ] || refuse "OPS_API_TOKEN is in neither the environment nor an --env file (or --query none)"
for tool in curl python3; do command -v "$tool" >/dev/null || refuse "it needs $tool"; done

mark=verify-$(date +%s)-$$
onboard=$receive/api/v1/webhooks/onboard
event='{"event":"account.created","session_id":"'$mark'","domain":"verify.invalid","data":{"email":"verify@verify.invalid","account_verified":true,"needs_review":false,"dns_mode":"manual","mail_aliases":[]}}'
json_header='content-type: application/json'

# deliver ID BODY [TIMESTAMP]
deliver() { request POST "$onboard" "$json_header"$'\n'"$(printf %s "$2" | signed "$1" "${3:-$(date +%s)}")" < <(printf %s "$2"); }
ask() { request "$1" "$query$2" "authorization: Bearer $OPS_API_TOKEN"$'\n'"$json_header" < <(printf %s "${3:-}"); }
healthy() { request GET "$1/health" </dev/null && expect 200; }
ready() { request GET "$1/ready" </dev/null && expect 200; }

check T001 "receive is healthy" healthy "$receive"
check T001 "receive is ready: its tables are there" ready "$receive"
if [ -n "$query" ]; then check T001 "query-events is ready" ready "$query"; fi
if [ -n "$portal" ]; then
    portal_healthy() { request GET "$portal/api/onboarding/health" </dev/null && expect 200; }
    check T002 "the portal is healthy" portal_healthy
else
    result skip T002 "the portal's health: no --portal"
fi
if [ -n "$emit" ]; then check T002 "emit-retry is ready" ready "$emit"; fi

deliver "msg_$mark-1" "$event"
ticket=$(field ticket_id)
first() { expect 201 && [ "$(field outcome)" = ticket_created ]; }
check T009 "a signed event makes a ticket" first
deliver "msg_$mark-2" "$event"
again() { expect 200 && [ "$(field outcome)" = duplicate ] && [ "$(field ticket_id)" = "$ticket" ]; }
check T009 "the same event again is a duplicate with the same ticket" again
second='{"event":"domain.validated","session_id":"'$mark'","domain":"verify.invalid"}'
deliver "msg_$mark-3" "$second"
recorded() { expect 200 && [ "$(field outcome)" = recorded ]; }
check T027 "an event that makes no ticket is recorded" recorded

if [ -n "$query" ]; then
    ask GET "/api/v1/desk/tickets/$ticket"
    seen() { expect 200 && [ "$(field subject)" = "[account.created] verify.invalid — verify@verify.invalid" ]; }
    check T017 "ops sees the ticket, with its subject" seen
    ask GET "/api/v1/desk/tickets?domain=verify.invalid&status=open"
    listed() { expect 200 && grep -q "\"$ticket\"" <<<"$answer"; }
    check T017 "and in the list of open tickets" listed
    ask GET "/api/v1/webhooks/events?session_id=$mark&order=asc"
    session() { expect 200 && [ "$(grep -o '"event_id"' <<<"$answer" | wc -l)" = 3 ] && [ "$(field items.2.event)" = domain.validated ]; }
    check T020 "the session has all its events, in order" session
else
    result skip T017 "the ticket at ops: --query none"
    result skip T020 "the session at ops: --query none"
fi

if [ -n "$emit" ]; then
    auth=$json_header
    if [ -n "${EMIT_API_TOKEN:-}" ]; then auth+=$'\n'"authorization: Bearer $EMIT_API_TOKEN"; fi
    request POST "$emit/api/v1/events" "$auth"$'\n'"idempotency-key: $mark" < <(printf %s "${second/domain.validated/dns.applied}")
    if [ "$status" = 200 ] && [ "$(field state)" = disabled ]; then
        result ok T023 "emit-retry is disabled, and answers 200 without an error"
    else
        check T013 "emit-retry takes an event" expect 202
        message=$(field webhook_id)
        for _ in $(seq 50); do
            request GET "$emit/api/v1/outbox/$message" "$auth" </dev/null
            if [ "$(field state)" = delivered ]; then break; fi
            sleep 0.2
        done
        delivered() { [ "$(field state)" = delivered ] || { echo "after 10 s it is $(field state): $(field attempts)"; return 1; }; }
        check T017 "and delivers it to ops" delivered
        result skip T023 "OPS_WEBHOOK_ENABLED=false: this emit-retry is enabled"
    fi
else
    result skip T023 "what emit-retry does: no --emit"
fi

request POST "$onboard" "$json_header" < <(printf %s "$event")
check refusals "an unsigned event is refused" expect 401 signature_missing
headers=$(printf %s "$event" | signed "msg_$mark-4" "$(date +%s)")
request POST "$onboard" "$json_header"$'\n'"$headers" < <(printf %s "${event/verify@/verif@}")
check refusals "a tampered event is refused" expect 401 signature_mismatch
deliver "msg_$mark-5" "$event" "$(($(date +%s) - 600))"
check refusals "an event of ten minutes ago is refused" expect 401 timestamp_out_of_tolerance
deliver "msg_$mark-6" "{"
check refusals "what is not JSON is refused" expect 400 malformed_json
deliver "msg_$mark-7" '{"event":"Not An Event","session_id":"'"$mark"'"}'
check refusals "what is not an event is refused" expect 422 invalid_event
if [ -n "$query" ]; then
    request GET "$query/api/v1/desk/tickets" </dev/null
    check refusals "ops's lists are refused without a token" expect 401 token_missing
    ask PATCH "/api/v1/desk/tickets/$ticket" '{"status":"closed"}'
    closed() { expect 200 && [ "$(field status)" = closed ]; }
    check clean-up "the ticket $ticket of this run is closed" closed
else
    result skip clean-up "close the ticket $ticket by hand: --query none"
fi
conclude
