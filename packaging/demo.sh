#!/usr/bin/env bash
# The demo: six customers - border router - internet, with two real mail servers, told as a short story. The border is
# a network namespace of its own, the others hang on it; processes and mounts are private too, so that nothing of this
# machine is touched and everything ends with the first process. Verdicts are judged by what arrived on the far side.
#
#   packaging/demo.sh [--keep]      as root; needs build/release/smtpfence (./dev demo builds it)
set -euo pipefail
export LC_ALL=C.UTF-8 PATH="$PATH:/usr/sbin:/sbin"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

foreign4=198.51.100.10 foreign6=2001:db8:ffff::10
relay4=203.0.113.25 relay6=2001:db8:0:25::25
# customer's name in the story: interface, addresses (the lines C010001 to C010006 of packaging/sample)
declare -A address4=([consumer]=100.64.10.7 [bot]=100.64.10.66 [expert]=100.64.11.25 [mobile]=100.80.4.40
    [fibre]=100.84.5.50 [shop]=192.0.2.81)
declare -A address6=([consumer]=2001:db8:1000:a00::7 [bot]=2001:db8:1000:4200::66 [expert]=2001:db8:1000:1900::25
    [mobile]=2001:db8:2000:2800::40 [fibre]=2001:db8:3000:3200::50 [shop]=2001:db8:b000:5000::81)
customers=(consumer bot expert mobile fibre shop)
declare -A process=() # name -> process that holds its network namespace open
wrong=0
step=0

# --- outside: start everything in namespaces of its own, wait for the verdict ---------------------------------------

outside() {
    local keep=no status
    case "${1:-}" in
        --keep) keep=yes ;;
        "") ;;
        *) echo "usage: ./dev demo [--keep]" >&2 && exit 2 ;;
    esac
    work=$(mktemp -d "${TMPDIR:-/tmp}/smtpfence-demo.XXXXXX")
    exec {story}>&1
    exec {verdict}< <(exec setsid "$root/packaging/private_mounts.py" unshare --net --pid --fork --kill-child \
        --propagation unchanged --mount-proc "$root/packaging/demo.sh" inside "$work" "$keep" 3>&1 >&"$story" </dev/null)
    world=$!
    # unshare(1) ignores SIGTERM; with it the first process inside ends, and with that all others.
    trap 'kill -KILL "$world" 2>/dev/null; rmdir "$work" 2>/dev/null' EXIT
    trap 'exit 130' INT TERM
    read -r status <&"$verdict" || status=1
    if [ "$keep" = yes ] && [ "$status" = 0 ]; then
        print_keep
        trap - EXIT
    fi
    exit "$status"
}

print_keep() {
    local first
    first=$(tr -d ' ' <"/proc/$world/task/$world/children")
    cat <<END

It is still running. To look around on the border router (and from there as a customer, the relay or the internet):
  nsenter --target $first --all --root $work/shell
To end it:
  kill -KILL $world; rmdir $work
END
}

# --- inside: the world ----------------------------------------------------------------------------------------------

# Runs a command in somebody's network.
in_network() {
    local name=$1
    shift
    nsenter --target "${process[$name]}" --net "$@"
}

# add_neighbour NAME INTERFACE: a network namespace, joined to the border by INTERFACE; its own end is eth0.
add_neighbour() {
    local name=$1 interface=$2
    unshare --net sleep infinity &
    process[$name]=$!
    until [ "$(readlink "/proc/${process[$name]}/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
    ip link add "$interface" type veth peer name eth0 netns "${process[$name]}"
    ip link set "$interface" up
    ip address add fe80::1/64 dev "$interface" nodad
    in_network "$name" ip link set lo up
    in_network "$name" ip link set eth0 up
    in_network "$name" ip route add default via 100.64.0.1 dev eth0 onlink
    in_network "$name" ip route add default via fe80::1 dev eth0
}

network_of() { python3 -c 'import ipaddress, sys; print(ipaddress.ip_interface(sys.argv[1]).network)' "$1"; }

# add_address NAME INTERFACE ADDRESS/LENGTH: the neighbour has the address; the border routes the prefix to it.
add_address() {
    local flags=()
    [[ $3 == *:* ]] && flags=(nodad)
    in_network "$1" ip address add "$3" dev eth0 "${flags[@]}"
    ip route add "$(network_of "$3")" dev "$2"
}

build_networks() {
    ip link set lo up
    ip address add 100.64.0.1/32 dev lo
    echo 1 >/proc/sys/net/ipv4/ip_forward
    echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
    local name number=0
    for name in "${customers[@]}"; do
        add_neighbour "$name" "bng$number"
        add_address "$name" "bng$number" "${address4[$name]}/32"
        add_address "$name" "bng$number" "${address6[$name]}/56"
        number=$((number + 1))
    done
    add_neighbour relay core0
    add_address relay core0 "$relay4/28"
    add_address relay core0 "$relay6/64"
    add_neighbour internet wan0
    add_address internet wan0 "$foreign4/24"
    add_address internet wan0 "$foreign6/64"
    for number in {101..130}; do # the servers that the bot tries
        in_network internet ip address add "198.51.100.$number/24" dev eth0
        in_network internet ip address add "2001:db8:ffff::$number/64" dev eth0 nodad
    done
}

# Names are looked up nowhere: this machine's resolver is out of reach from in here, and asking it would only take time.
hide_resolver() {
    local resolver
    printf '127.0.0.1 localhost %s\n' "$HOSTNAME" >"$work/hosts"
    printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' >"$work/resolv.conf"
    resolver=$(readlink -m /etc/resolv.conf)
    [[ $resolver != /run/* ]] || { mkdir -p "${resolver%/*}" && touch "$resolver"; }
    [ ! -e "$resolver" ] || mount --bind "$work/resolv.conf" "$resolver"
    [ ! -e /etc/hosts ] || mount --bind "$work/hosts" "$(readlink -f /etc/hosts)"
}

# start_mail_server NAME: OpenSMTPD in NAME's network with the configuration on standard input, its own spool and sockets.
start_mail_server() {
    local name=$1
    mkdir -p "$work/$name"
    cat >"$work/$name/smtpd.conf"
    # shellcheck disable=SC2016 # expands in the inner shell
    in_network "$name" unshare --mount --propagation unchanged bash -euc '
        mount -t tmpfs -o mode=755 tmpfs /run
        mount -t tmpfs -o mode=755 tmpfs /var/spool
        exec smtpd -d -f "$1/smtpd.conf"' bash "$work/$name" >"$work/$name/log" 2>&1 &
    wait_for 10 "the mail server '$name' to listen" in_network "$name" bash -c 'exec 3<>/dev/tcp/127.0.0.1/25'
}

start_mail_servers() {
    mkdir -p "$work/inbox"
    chown nobody "$work/inbox"
    start_mail_server internet <<END
listen on 0.0.0.0 port 25 hostname mx.foreign.example
listen on :: port 25 hostname mx.foreign.example
listen on 0.0.0.0 port 587 hostname submission.foreign.example
listen on :: port 587 hostname submission.foreign.example
action inbox maildir "$work/inbox" virtual { "@" = "nobody" }
match from any for any action inbox
END
    start_mail_server relay <<END
listen on 0.0.0.0 port 25 hostname out.provider.example
listen on :: port 25 hostname out.provider.example
action onward relay host "smtp://$foreign4" helo out.provider.example
match from any for any action onward
END
    in_network internet tcpdump -Z root -i eth0 -n -U --immediate-mode -w "$work/capture" 'tcp' 2>"$work/capture.log" &
    wait_for 5 "the capture to start" grep -q 'listening on' "$work/capture.log"
}

# wait_for SECONDS WHAT COMMAND...
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "demo: gave up waiting for $what" >&2
            return 1
        fi
        sleep 0.05
    done
}

smtpfence() { "$root/build/release/smtpfence" --config "$work/config.toml" "$@"; }

start_fence() {
    cat >"$work/config.toml" <<END
database = "sqlite:$work/subscribers.db"
router = "border"
state_directory = "$work/state"
[interfaces]
subscriber = ["bng*"]
END
    local sample=$root/packaging/sample
    smtpfence --quiet init
    smtpfence --quiet import "$sample/network.jsonl" --format jsonl --source network
    smtpfence --quiet import "$sample/customers.jsonl" --format jsonl --source customers
    smtpfence --quiet import "$sample/business.csv" --format csv --what assignments --source business
    smtpfence --quiet import "$sample/exemptions.jsonl" --format jsonl --source exemptions
    smtpfence run >"$work/service.log" 2>&1 &
    wait_for 20 "the fence to be enforced" fence_enforced
}

fence_enforced() {
    local status revision
    status=$(smtpfence status --output json | tr -d ' \n')
    [[ $status =~ \"revision\":([0-9]+) ]] && revision=${BASH_REMATCH[1]} &&
        [[ $status =~ \"desired_revision\":([0-9]+) ]] && [ "$revision" = "${BASH_REMATCH[1]}" ] &&
        nft list chain inet smtpfence consumer_drop
}

# --- inside: observing ----------------------------------------------------------------------------------------------

milliseconds() { echo $(((${2/./} - ${1/./}) / 1000)); }

# send NAME SERVER PORT SUBJECT: a mail by swaks; sets `answer` (sent, reset, silent or failed) and `took` in milliseconds.
send() {
    local started=$EPOCHREALTIME output
    answer=sent
    output=$(in_network "$1" swaks --server "$2" --port "$3" --timeout 3 --helo "$1.example" --from "$1@provider.example" \
        --to friend@foreign.example --header "Subject: $4" --body hello 2>&1) || answer=failed
    took=$(milliseconds "$started" "$EPOCHREALTIME")
    [ "$answer" = sent ] && return
    case "$output" in
        *refused* | *reset*) answer=reset ;;
        *imeout* | *"timed out"*) answer=silent ;;
        *) printf '%s\n' "$output" ;; # what went wrong, in the client's words
    esac
}

# Packets in the internet's capture that match.
captured() {
    sleep 0.1
    tcpdump -r "$work/capture" -n "$1" 2>/dev/null | wc -l
}

delivered() { grep -rqs "^Subject: $1\$" "$work/inbox"; }
# The address from which the foreign server received the mail.
sender_seen() { grep -rlh "^Subject: $1\$" "$work/inbox" | xargs sed -n '/^Received:/{s/.*\[\(.*\)\].*/\1/p;q}'; }
arrives() { wait_for 10 "the mail '$1' in the foreign inbox" delivered "$1"; }

named_in_attempts() { smtpfence attempts --since 1h --output json | grep -q "\"$1\""; }

# tell STATUS WHO WHAT RESULT: one line of the story; it is right when STATUS is 0.
tell() {
    local mark=ok
    [ "$1" = 0 ] || { mark=WRONG && wrong=$((wrong + 1)); }
    step=$((step + 1))
    printf '%2d. %-9s %-42s %-53s %s\n' "$step" "$2" "$3" "$4" "$mark"
}

# --- inside: the story ----------------------------------------------------------------------------------------------

blocked_silently() {
    local family=$1 name=$2 server=$3 source=$4 packets
    send "$name" "$server" 25 "blocked $family $name"
    packets=$(captured "src host $source and tcp dst port 25")
    [ "$answer" = silent ] && [ "$packets" = 0 ] && ! delivered "blocked $family $name"
    tell $? "$name" "mail to a foreign server, port 25 ($family)" "$answer for $took ms, $packets packets arrived"
}

blocked_with_reset() {
    local family=$1 name=$2 server=$3 source=$4 packets
    send "$name" "$server" 25 "reset $family $name"
    packets=$(captured "src host $source and tcp dst port 25")
    [ "$answer" = reset ] && [ "$packets" = 0 ] && [ "$took" -lt 2000 ]
    tell $? "$name" "the same from a 'reject' pool ($family)" "$answer after $took ms, $packets packets arrived"
}

# The foreign server got the mail from the sender's own address or, where the server is the relay, from the relay.
sends() { # sends NAME SERVER PORT SUBJECT WHAT
    local peer seen=nobody
    case "$2" in
        "$relay4" | "$relay6") peer=$relay4 ;;
        *:*) peer=${address6[$1]} ;;
        *) peer=${address4[$1]} ;;
    esac
    send "$1" "$2" "$3" "$4"
    [ "$answer" = sent ] && arrives "$4" && seen=$(sender_seen "$4")
    [ "$seen" = "$peer" ]
    tell $? "$1" "$5" "$answer in $took ms, arrived from $seen"
}

bot_tries_many() {
    local family=$1 network=$2 source=$3 greeted packets
    # shellcheck disable=SC2016 # expands in the inner shell
    greeted=$(in_network bot bash -c '
        for number in {101..130}; do
            timeout 1 bash -c "exec 3<>/dev/tcp/$1$number/25 && read -r line <&3 && echo \"\$line\"" 2>/dev/null &
        done
        wait' bash "$network" | wc -l)
    packets=$(captured "src host $source and tcp dst port 25")
    [ "$greeted" = 0 ] && [ "$packets" = 0 ]
    tell $? bot "tries 30 foreign servers at once ($family)" "$greeted answered, $packets packets arrived"
}

grant_live() {
    local output milliseconds
    output=$(smtpfence exempt grant C010001 --reason "own mail server" --ticket MAIL-5000 --output json) || output=failed
    milliseconds=$(tr -d ' \n' <<<"$output" | sed -n 's/.*"milliseconds":\([0-9.]*\).*/\1/p')
    [ -n "$milliseconds" ]
    tell $? support "exempt grant C010001" "enforced on the border in ${milliseconds:-?} ms"
}

revoke_cuts_session() {
    local before='' after=''
    # shellcheck disable=SC2016 # expands in the inner shell
    coproc SESSION { in_network consumer bash -c 'exec 3<>/dev/tcp/$1/25; cat <&3 & exec cat >&3' bash "$foreign4"; }
    read -r -t 3 -u "${SESSION[0]}" _ || true # the greeting
    printf 'NOOP\r\n' >&"${SESSION[1]}"
    read -r -t 3 -u "${SESSION[0]}" before || true
    smtpfence --quiet exempt revoke C010001 --reason "moved to the provider's relay" >/dev/null || wrong=$((wrong + 1))
    printf 'NOOP\r\n' >&"${SESSION[1]}"
    read -r -t 2 -u "${SESSION[0]}" after || true
    [ "${before:0:3}" = 250 ] && [ -z "$after" ]
    tell $? support "exempt revoke C010001, a session is open" "before: '${before:0:3}', after: '${after:-silence}'"
}

observed_is_counted() {
    local result=missing
    wait_for 30 "C010005 among the attempts" named_in_attempts C010005 && result="names C010005"
    [ "$result" != missing ]
    tell $? support "attempts, of the 'observe' pool too" "$result"
}

story() {
    blocked_silently IPv4 consumer $foreign4 "${address4[consumer]}"
    blocked_silently IPv6 consumer $foreign6 "${address6[consumer]}"
    sends consumer $relay4 25 "by the relay" "the same by the provider's relay (IPv4)"
    sends consumer $relay6 25 "by the relay over IPv6" "the same by the provider's relay (IPv6)"
    sends consumer $foreign4 587 "by submission" "submission to a foreign provider, port 587"
    bot_tries_many IPv4 198.51.100. "${address4[bot]}"
    bot_tries_many IPv6 2001:db8:ffff:: "${address6[bot]}"
    blocked_with_reset IPv4 mobile $foreign4 "${address4[mobile]}"
    blocked_with_reset IPv6 mobile $foreign6 "${address6[mobile]}"
    sends fibre $foreign4 25 "observed" "port 25 from an 'observe' pool"
    sends shop $foreign4 25 "business" "port 25 from a static business line"
    sends expert $foreign4 25 "expert" "port 25 of an exempt customer (IPv4)"
    sends expert $foreign6 25 "expert over IPv6" "port 25 of an exempt customer (IPv6)"
    grant_live
    sends consumer $foreign4 25 "granted" "mail to a foreign server, port 25 (IPv4)"
    sends consumer $foreign6 25 "granted over IPv6" "mail to a foreign server, port 25 (IPv6)"
    revoke_cuts_session
    observed_is_counted
    printf '\n$ smtpfence explain %s\n' "${address4[consumer]}"
    smtpfence explain "${address4[consumer]}" || wrong=$((wrong + 1))
    printf '\n$ smtpfence attempts --since 1h\n'
    smtpfence attempts --since 1h || wrong=$((wrong + 1))
}

# What --keep offers: a shell on the border, with a command for each neighbour's network.
write_shell() {
    local name
    mkdir -p "$work/bin"
    for name in "${!process[@]}"; do
        printf '#!/bin/sh\nexec nsenter --target %s --net "$@"\n' "${process[$name]}" >"$work/bin/$name"
    done
    printf '#!/bin/sh\nexec %q --config %q "$@"\n' "$root/build/release/smtpfence" "$work/config.toml" >"$work/bin/smtpfence"
    cat >"$work/shell" <<END
#!/bin/sh
export PATH="$work/bin:\$PATH:/usr/sbin:/sbin"
cd "$work"
echo "You are on the border router. Try: smtpfence status; nft list table inet smtpfence; less service.log"
echo "  consumer swaks --server $foreign4 --to friend@foreign.example --timeout 3   (also: ${!process[*]})"
echo "  smtpfence exempt grant C010001 --reason test"
exec bash
END
    chmod +x "$work"/bin/* "$work/shell"
}

inside() {
    work=$1
    # Private /run: no socket of this machine (journal, mail, bus) is in reach.
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t tmpfs -o mode=755 tmpfs "$work"
    echo "The world: customers (bng*) - border router with smtpfence - relay (core0) and internet (wan0)"
    hide_resolver
    build_networks
    start_mail_servers
    start_fence
    set +e
    story
    write_shell
    if [ "$wrong" != 0 ]; then
        printf '\n%d of these verdicts are WRONG. The service said:\n' "$wrong"
        tail -n 20 "$work/service.log"
    fi
    echo "$((wrong > 0))" >&3
    exec 3>&-
    [ "$2" = no ] || exec sleep infinity
}

case "${1:-}" in
    inside) inside "$2" "$3" ;;
    *) outside "$@" ;;
esac
