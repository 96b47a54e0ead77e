# Runs commands one after another; the first process of a sandbox, so that it can not be killed
# from inside. $1: folder with the commands, $2: descriptor that their names come from, $3:
# descriptor that exit codes go to, $4: processes that commands may have, or nothing.
folder=$1 in=$2 out=$3 processes=$4 job=''
umask 022
exec 2>/dev/null
# Commands must not disturb it, but not inherit this.
trap '' HUP INT QUIT TERM
# From the first process of a pid namespace, this kills all others at once. Elsewhere it would
# kill everything its user runs.
if (($$ == 1)); then
  trap 'kill -9 -1' USR1
else
  trap 'kill -9 -- "-$job"' USR1
fi
mapfile -d '' environment <"$folder/environ"
echo 0 >&"$out"
while read -r -u "$in"; do
  IFS= read -r -d '' command <"$folder/$REPLY.command"
  # With job control, a command gets a process group of its own and does not ignore SIGINT.
  set -m
  {
    trap - HUP INT QUIT TERM
    {
      ulimit -c 0
      ulimit -f 1048576
      ulimit -n 1024
      [[ $processes ]] && ulimit -u "$processes"
    } 2>/dev/null
    exec env -i -- "${environment[@]}" bash -c -- "$command"
  } </dev/null >"$folder/$REPLY.out" 2>"$folder/$REPLY.err" {in}<&- {out}>&- &
  job=$!
  # Without it, a command that is stopped is not over. (`wait -f`, for that, can loop for ever.)
  set +m
  # SIGUSR1 ends the first one early.
  wait "$job"
  wait "$job"
  echo "$?" >&"$out"
done
