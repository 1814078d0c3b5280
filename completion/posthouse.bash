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
      'install'|'upgrade'|'verify'|'uninstall'|'adopt'|'enqueue'|'work'|'jobs'|'jobs list'|'jobs show'|'jobs cancel'|'jobs retry'|'jobs delete'|'stats'|'limits'|'limits list'|'limits set'|'limits reset'|'config'|'config check'|'config show'|'config example'|'dev'|'dev start'|'dev stop'|'dev url'|'dev psql'|'bench'|'demo') path=$next ;;
    esac
  done
  case $path in
    '') words='install upgrade verify uninstall adopt enqueue work jobs stats limits config dev bench demo' ;;
    'install') words='--print-sql' ;;
    'upgrade') words='--print-sql' ;;
    'verify') words='--json' ;;
    'uninstall') words='--yes --print-sql' ;;
    'adopt') words='' ;;
    'enqueue') words='--queue --priority --delay --run-at --header --max-attempts --raw --lines --json' ;;
    'work') words='--queue --kind --concurrency --prefetch --claim-lease --processes --once' ;;
    'jobs') words='list show cancel retry delete' ;;
    'jobs list') words='--state --kind --queue --before --limit --json' ;;
    'jobs show') words='--json' ;;
    'jobs cancel') words='' ;;
    'jobs retry') words='' ;;
    'jobs delete') words='' ;;
    'stats') words='--json' ;;
    'limits') words='list set reset' ;;
    'limits list') words='--json' ;;
    'limits set') words='--json --concurrency --rate --burst' ;;
    'limits reset') words='--json' ;;
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
  if [[ $current == -* || -z $path || $path == jobs || $path == config || $path == dev ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words --help --version --database-url --schema --config --log-level --log-format" -- "$current")
  fi
}
complete -F _posthouse posthouse
