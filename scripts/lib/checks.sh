# What the verify scripts share: a line a check, and requests whose secrets are in no argument list.

passed=0 failed=0 skipped=0 json=false results=()

# result ok|FAIL|skip TASK TEXT
result() {
    case "$1" in ok) passed=$((passed + 1)) ;; FAIL) failed=$((failed + 1)) ;; skip) skipped=$((skipped + 1)) ;; esac
    results+=("$1"$'\t'"$2"$'\t'"$3")
    $json || printf '%-4s  %-9s  %s\n' "$1" "$2" "$3"
}

# check TASK TEXT COMMAND…: ok when the command succeeds; what it prints says what was seen.
check() {
    local task=$1 text=$2 seen code=0
    shift 2
    seen=$("$@" 2>&1) || code=$?
    if [ "$code" -eq 0 ]; then result ok "$task" "$text"; else result FAIL "$task" "$text: ${seen:-it is not so}"; fi
}

# The last line, and the exit status: 0 when nothing failed.
conclude() {
    if $json; then
        printf '%s\n' "${results[@]}" | python3 -c '
import json, sys
rows = [line.rstrip("\n").split("\t") for line in sys.stdin]
checks = [{"result": r[0].lower(), "task": r[1], "text": r[2]} for r in rows if len(r) == 3]
print(json.dumps({"checks": checks, "failed": sum(c["result"] == "fail" for c in checks)}))'
    else
        echo "$passed passed, $failed failed, $skipped skipped"
    fi
    [ "$failed" -eq 0 ]
}

# setting FILE NAME: a value of an EnvironmentFile.
setting() { sed -n "s/^$2=//p" "$1" | tail -n 1 | sed "s/^\([\"']\)\(.*\)\1\$/\2/"; }

# request METHOD URL [HEADERS, one a line]: sends standard input; sets $status and $answer. Headers go by a pipe: an
# argument could be seen by every user of the host.
request() {
    local method=$1 url=$2 headers=${3:-} body out
    body=$(mktemp) && cat >"$body"
    local data=()
    [ -s "$body" ] && data=(--data-binary "@$body")
    out=$(curl -sS -m 10 -o "$body.out" -w '%{http_code}' -X "$method" -H @- "${data[@]}" "$url" <<<"$headers" 2>&1) || out="000 $out"
    status=${out:0:3} answer=$(cat "$body.out" 2>/dev/null || true)
    [ "$status" = 000 ] && answer=${out#000 }
    rm -f "$body" "$body.out"
}

# field NAME: a member of the JSON in $answer, nested by dots; empty where there is none.
field() {
    python3 -c '
import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("."):
    value = value[int(name)] if isinstance(value, list) else value.get(name)
    if value is None: break
print("" if value is None else json.dumps(value) if isinstance(value, (dict, list, bool)) else value)' "$1" <<<"$answer" 2>/dev/null || true
}

# signed ID TIMESTAMP: the three headers for standard input, signed with the first secret of $WEBHOOK_SECRET.
signed() {
    WEBHOOK_SECRET=$WEBHOOK_SECRET python3 -c '
import base64, hashlib, hmac, os, re, sys
secret = re.split(r"[\s,]+", os.environ["WEBHOOK_SECRET"].strip())[0]
key = base64.b64decode(secret.removeprefix("whsec_"))
content = f"{sys.argv[1]}.{sys.argv[2]}.".encode() + sys.stdin.buffer.read()
signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
print(f"webhook-id: {sys.argv[1]}\nwebhook-timestamp: {sys.argv[2]}\nwebhook-signature: v1,{signature}")' "$1" "$2"
}

# expect STATUS [CODE]: whether the last answer was that.
expect() {
    [ "$status" = "$1" ] && { [ -z "${2:-}" ] || [ "$(field code)" = "$2" ]; } && return
    echo "answered $status $(field code)$([ "$status" = 000 ] && echo "($answer)")"
    return 1
}
