# Processes that outlive the script: started with a log, remembered by pid and start time, ended by pid. To be sourced.
# A pid alone could be another process by now; a pid with its start time cannot.
# shellcheck shell=bash

# The time a process started, in ticks since boot; fails when there is none.
start_time() { local stat; stat=$(cat "/proc/$1/stat" 2>/dev/null) && stat=${stat##*) } && set -- $stat && printf '%s' "${20}"; }

# start_process NAME PIDFILE LOG COMMAND…
start_process() {
    local pidfile=$2 log=$3 pid
    shift 3
    mkdir -p "$(dirname "$pidfile")" "$(dirname "$log")"
    setsid "$@" </dev/null >>"$log" 2>&1 9>&- &
    pid=$!
    disown "$pid"
    printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$pidfile"
}

# pid_of PIDFILE: prints the pid when that process still runs.
pid_of() {
    local pid started
    [[ -r $1 ]] && read -r pid started <"$1" || return 1
    [[ -n $started && $(start_time "$pid") == "$started" ]] && ! is_zombie "$pid" || return 1
    printf '%s' "$pid"
}

is_zombie() { local stat; stat=$(cat "/proc/$1/stat" 2>/dev/null) && stat=${stat##*) } && [[ $stat == Z* ]]; }

# stop_process PIDFILE [SECONDS]: SIGTERM, then SIGKILL.
stop_process() {
    local pid
    if pid=$(pid_of "$1"); then
        kill -TERM "$pid" 2>/dev/null || true
        wait_until "${2:-10}" gone "$1" || { kill -KILL "$pid" 2>/dev/null || true; wait_until 5 gone "$1"; }
    fi
    rm -f "$1"
}

gone() { ! pid_of "$1" >/dev/null; }

# wait_until SECONDS COMMAND…: until the command succeeds.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}
