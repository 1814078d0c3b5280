# Completion of posthouse's command line for bash. Written by `posthouse completion`.
_posthouse() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} path='' word next words=''
  case $previous in
    --config) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    --folder) mapfile -t COMPREPLY < <(compgen -d -- "$current"); return ;;
    --log-level) mapfile -t COMPREPLY < <(compgen -W 'debug info warning error' -- "$current"); return ;;
    --log-format) mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$current"); return ;;
    --state)
      mapfile -t COMPREPLY < <(compgen -W 'scheduled blocked available running retryable succeeded failed cancelled expired' -- "$current")
      return ;;
  esac
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    next=${path:+$path }$word
    case $next in
      'install'|'upgrade'|'verify'|'uninstall'|'adopt'|'enqueue'|'work'|'start'|'jobs'|'jobs list'|'jobs show'|'jobs wait'|'jobs cancel'|'jobs retry'|'jobs delete'|'schedules'|'schedules list'|'schedules add'|'schedules set'|'schedules remove'|'schedules pause'|'schedules resume'|'schedules run'|'schedules next'|'schedules history'|'dead'|'dead list'|'dead retry'|'dead purge'|'queues'|'queues list'|'queues pause'|'queues resume'|'queues set'|'queues show'|'kinds'|'kinds list'|'kinds pause'|'kinds resume'|'kinds set'|'kinds show'|'workers'|'workers list'|'workers ping'|'status'|'stats'|'doctor'|'limits'|'limits list'|'limits set'|'limits reset'|'keys'|'keys list'|'keys pause'|'keys resume'|'config'|'config check'|'config show'|'config example'|'dev'|'dev start'|'dev stop'|'dev url'|'dev psql'|'bench'|'demo') path=$next ;;
    esac
  done
  case $path in
    '') words='install upgrade verify uninstall adopt enqueue work start jobs schedules dead queues kinds workers status stats doctor limits keys config dev bench demo' ;;
    'install') words='--print-sql --roles --broker-schema --verify-only' ;;
    'upgrade') words='--print-sql' ;;
    'verify') words='--json --print-sql' ;;
    'uninstall') words='--yes --print-sql' ;;
    'adopt') words='' ;;
    'enqueue') words='--queue --priority --delay --run-at --header --max-attempts --expires-in --expires-at --timeout --key --depends-on --any-end --dedupe-key --on-duplicate --dedupe-scope --dedupe-window --token --raw --lines --json' ;;
    'work') words='--queue --kind --concurrency --prefetch --claim-lease --processes --once' ;;
    'start') words='--install --standby' ;;
    'jobs') words='list show wait cancel retry delete' ;;
    'jobs list') words='--state --kind --queue --before --limit --json' ;;
    'jobs show') words='--json' ;;
    'jobs wait') words='--timeout --json' ;;
    'jobs cancel') words='--wait' ;;
    'jobs retry') words='' ;;
    'jobs delete') words='' ;;
    'schedules') words='list add set remove pause resume run next history' ;;
    'schedules list') words='--json' ;;
    'schedules add') words='--cron --every --at --time-zone --queue --priority --header --max-attempts --key --dedupe-key --on-duplicate --dedupe-scope --dedupe-window --expires-in --timeout --jitter --misfire --misfire-limit --overlap --raw --disabled --json' ;;
    'schedules set') words='--kind --payload --cron --every --at --time-zone --queue --priority --header --max-attempts --key --dedupe-key --on-duplicate --dedupe-scope --dedupe-window --expires-in --timeout --jitter --misfire --misfire-limit --overlap --raw --enabled --disabled --json' ;;
    'schedules remove') words='--json' ;;
    'schedules pause') words='--json' ;;
    'schedules resume') words='--json' ;;
    'schedules run') words='--json' ;;
    'schedules next') words='--cron --time-zone --from --json' ;;
    'schedules history') words='--json' ;;
    'dead') words='list retry purge' ;;
    'dead list') words='--state --kind --queue --before --limit --json' ;;
    'dead retry') words='--all --state --kind --queue --limit --json' ;;
    'dead purge') words='--state --kind --queue --older-than --yes --json' ;;
    'queues') words='list pause resume set show' ;;
    'queues list') words='--json' ;;
    'queues pause') words='' ;;
    'queues resume') words='' ;;
    'queues set') words='--json --priority --max-concurrency --requests-per-second --rps --burst --reset' ;;
    'queues show') words='--json' ;;
    'kinds') words='list pause resume set show' ;;
    'kinds list') words='--json' ;;
    'kinds pause') words='' ;;
    'kinds resume') words='' ;;
    'kinds set') words='--json --concurrency-limit --requests-per-second --rps --burst --key-limit --key-requests-per-second --key-rps --key-burst --serialized-dispatch --weight --fair-by --reset' ;;
    'kinds show') words='--json' ;;
    'workers') words='list ping' ;;
    'workers list') words='--all --json' ;;
    'workers ping') words='--timeout --json' ;;
    'status') words='--json' ;;
    'stats') words='--json' ;;
    'doctor') words='--json' ;;
    'limits') words='list set reset' ;;
    'limits list') words='--json' ;;
    'limits set') words='--json --concurrency --rate --burst' ;;
    'limits reset') words='--json' ;;
    'keys') words='list pause resume' ;;
    'keys list') words='--kind --limit --json' ;;
    'keys pause') words='--json' ;;
    'keys resume') words='--json' ;;
    'config') words='check show example' ;;
    'config check') words='--connect' ;;
    'config show') words='' ;;
    'config example') words='' ;;
    'dev') words='start stop url psql' ;;
    'dev start') words='--folder --fast' ;;
    'dev stop') words='--remove' ;;
    'dev url') words='' ;;
    'dev psql') words='' ;;
    'bench') words='--jobs --repetitions --seconds --json --quiet' ;;
    'demo') words='--jobs --print-config' ;;
  esac
  if [[ $current == -* || -z $path || $path == jobs || $path == dead || $path == queues || $path == kinds || $path == workers || $path == config || $path == dev ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words --help --version --database-url --database --schema --config --log-level --log-format" -- "$current")
  fi
}
complete -F _posthouse posthouse
