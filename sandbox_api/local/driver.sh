# Runs commands one after another; the first process of a sandbox, so that it cannot be killed
# from inside. $1: folder with the command to run, $2: descriptor that orders come from, each of them
# a number and the name of two pipes, $3: descriptor that exit codes go to, $4: descriptors by which
# to enter control groups, $5: processes that commands may have, or nothing; the rest: options of
# ulimit, each with its value.
folder=$1 in=$2 out=$3 processes=$5
for each in $4; do
  echo 0 >&"$each" || exit
  exec {each}>&-
done
shift 5
# Variables of its own must be set when it looks whether commands are given one of the same name.
job='' code='' known='' direct='' command='' number='' pipes='' given=('')
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
ulimit "$@"
# As long as LC_ALL is set, changes of LANG do not make it load a locale.
export -n LC_ALL OLDPWD PWD SHELL SHLVL

# Reads the variables that commands are given, and tells whether the shell itself can hand them
# over, because it neither knows nor has to understand any but four, which mostly are as they were
# when it started. It saves half a millisecond.
prepare() {
  mapfile -d '' environment <"$folder/environ"
  local each name
  for each in "${environment[@]}"; do
    name=${each%%=*}
    if [[ $name == @(PATH|HOME|USER|LANG) ]]; then
      [[ ${!name} == "${each#*=}" ]] && continue
    else
      [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ && $name != @(BASH|LC_)* && ! -v $name ]] || return
    fi
    given+=("$each")
  done
}

echo 0 0 >&"$out"
while read -r -u "$in" number pipes; do
  # Without that file, they are to have what this shell was given.
  [[ $known ]] || { known=yes; [[ ! -e $folder/environ ]] || prepare && direct=yes; }
  IFS= read -r -d '' command <"$folder/command"
  # With job control, a command gets a process group of its own and does not ignore SIGINT.
  set -m
  {
    trap - HUP INT QUIT TERM
    {
      [[ $processes ]] && ulimit -u "$processes"
      [[ $direct ]] && ((${#given[@]} > 1)) && export -- "${given[@]:1}"
    } 2>/dev/null
    [[ $direct ]] && exec -a bash /bin/bash -c -- "$command"
    # It looks for a shell without a path where the command is to look for programs.
    [[ " ${environment[*]} " == *" PATH=$PATH "* ]] && shell=bash || shell=/bin/bash
    exec /usr/bin/env -i -- "${environment[@]}" "$shell" -c -- "$command"
  } </dev/null >"$folder/$pipes.out" 2>"$folder/$pipes.err" {in}<&- {out}>&- &
  job=$!
  # Without it, a command that is stopped is not over. (`wait -f`, for that, can loop for ever.)
  set +m
  wait "$job"
  code=$?
  # SIGUSR1 ends that early, with such a code. Else it costs the shell half a megabyte to wait again.
  ((code > 128)) && { wait "$job"; code=$?; }
  echo "$number $code" >&"$out"
done
