#!/usr/bin/env bash
# An agent of orfeas by curl: submits pictures as one batch, waits for its end and downloads the meshes.
#
#     agent.sh --out DIR PICTURE...
#
# ORFEAS_URL is where the server is (http://127.0.0.1:8080), ORFEAS_KEY_FILE a file with what
# `orfeas keys create --name NAME --json` has printed. `orfeas sign` makes the headers that sign a request;
# ORFEAS says where the program is, if not on the PATH. Needs curl, jq and coreutils.
#
# curl has no WebSockets everywhere, so this one asks instead of subscribing. The other examples subscribe.
set -euo pipefail

: "${ORFEAS_URL:?say where the server is}" "${ORFEAS_KEY_FILE:?name the file with the key}"
orfeas=${ORFEAS:-orfeas}
url=${ORFEAS_URL%/}/graphql
# How often a refused request is tried again before the program gives up.
attempts_max=8

out=.
pictures=()
while (($#)); do
    case $1 in
    --out)
        out=${2:?--out needs a folder}
        shift 2
        ;;
    *)
        pictures+=("$1")
        shift
        ;;
    esac
done
((${#pictures[@]})) || { echo "usage: agent.sh --out DIR PICTURE..." >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Sends the request in $work/body and leaves the answer in $work/answer. Each try is signed anew: a signature works once.
send() {
    local attempt status seconds code
    for ((attempt = 1; ; attempt++)); do
        "$orfeas" sign --key-file "$ORFEAS_KEY_FILE" --method POST --url "$url" --body "$work/body" >"$work/signature"
        status=$(curl --silent --show-error --max-time 120 --output "$work/answer" --dump-header "$work/headers" \
            --write-out '%{http_code}' --header 'Content-Type: application/json' --header "@$work/signature" \
            --data-binary "@$work/body" "$url")
        if [[ $status != 429 ]] || ((attempt == attempts_max)); then
            break
        fi
        seconds=$(sed -n 's/\r$//; s/^retry-after: *//Ip' "$work/headers")
        echo "RATE_LIMITED: trying again in ${seconds:-1} s" >&2
        sleep "${seconds:-1}"
    done
    # Whoever stands between us and the server may answer with a page.
    code=$(jq -r '.errors // [] | .[0] // empty | "\(.extensions.code): \(.message)"' "$work/answer" 2>"$work/complaint") ||
        code="INTERNAL: the server answered $status"
    if [[ -z $code && $status != 200 ]]; then
        code="INTERNAL: the server answered $status"
    fi
    if [[ $code ]]; then
        echo "$code" >&2
        exit 1
    fi
}

# Pictures go through files: a command line holds less than a picture.
for index in "${!pictures[@]}"; do
    base64 --wrap=0 -- "${pictures[index]}" >"$work/picture"
    jq -n --rawfile picture "$work/picture" '{ base64: $picture }' >"$work/image.$(printf %06d "$index")"
done
# With its key, a submission that is sent twice is one batch.
jq -n --arg key "$(basename "$work")-$(date +%s%N)" --slurpfile images <(cat "$work"/image.*) '{
    query: "mutation ($input: SubmitBatchInput!) { submitBatch(input: $input) {
        batch { id } items { index conversion { id } error { code message } } } }",
    variables: { input: { images: $images, idempotencyKey: $key } }
}' >"$work/body"
send
cp "$work/answer" "$work/submitted"

failures=0
while IFS=$'\t' read -r index complaint; do
    echo "${pictures[index]}: $complaint" >&2
    failures=$((failures + 1))
done < <(jq -r '.data.submitBatch.items[] | select(.error) | "\(.index)\t\(.error.code): \(.error.message)"' "$work/submitted")
batch=$(jq -r '.data.submitBatch.batch.id // empty' "$work/submitted")
[[ $batch ]] || exit 1

jq -n --arg id "$batch" '{
    query: "query ($id: ID!) { batch(id: $id) { progress counts { queued running }
        conversions { id status error { code message } outputs { format url sha256 } } } }",
    variables: { id: $id }
}' >"$work/body"
while :; do
    send
    echo "$batch: $(jq -r '.data.batch.progress * 100 | floor' "$work/answer")%" >&2
    [[ $(jq '.data.batch.counts | .queued + .running' "$work/answer") == 0 ]] && break
    # A key has 100 requests a minute unless it was given more.
    sleep 2
done

mkdir -p "$out"
while IFS=$'\t' read -r index complaint file sha256; do
    picture=${pictures[index]}
    if [[ $complaint != - ]]; then
        echo "$picture: $complaint" >&2
        failures=$((failures + 1))
        continue
    fi
    name=$(basename "$picture")
    mesh=$out/${name%.*}.glb
    # The URL needs no signature, and is not to be shown to others.
    curl --silent --show-error --fail --max-time 120 --output "$mesh" "$file"
    echo "$sha256  $mesh" | sha256sum --check --quiet
    echo "$picture -> $mesh"
done < <(jq -r --slurpfile submitted "$work/submitted" '
    ($submitted[0].data.submitBatch.items | map(select(.conversion) | { key: .conversion.id, value: .index }) | from_entries) as $places
    | .data.batch.conversions[] | (.outputs | map(select(.format == "GLB")) | .[0]) as $mesh
    | [ $places[.id],
        (if $mesh then "-" elif .error then "\(.error.code): \(.error.message)" else .status end),
        ($mesh.url // "-"), ($mesh.sha256 // "-") ] | @tsv' "$work/answer")
((failures == 0))
