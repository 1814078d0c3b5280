-- What `posthouse install` makes, without function bodies. Compared by a test, which writes it anew when
-- POSTHOUSE_UPDATE_GOLDEN is set.
column attempt_error.at timestamp with time zone not null
column attempt_error.attempt integer not null
column attempt_error.job bigint not null
column attempt_error.message text
column attempt_error.stack text
column attempt_error.type text
column attempt_error.worker bigint
column batch.acked bit varying
column batch.claimed_at timestamp with time zone not null
column batch.closed_at timestamp with time zone
column batch.freed bit varying
column batch.hi pg_snapshot not null
column batch.ids bigint[] not null
column batch.keys text[]
column batch.lane bigint not null
column batch.lo pg_snapshot not null
column batch.moved integer not null default 0
column batch.n integer not null
column batch.pos_id bigint not null
column batch.pos_txid xid8 not null
column batch.seq bigint not null
column batch.started_to integer not null
column batch.token bigint not null
column batch.worker bigint not null
column broker_cron.id bigint not null generated always as identity
column broker_cron.language text collate "C" not null
column broker_cron.made_by text collate "C" not null
column broker_cron.name text not null
column broker_cron.own boolean not null default false
column broker_cron.run_as text collate "C"
column broker_cron.schedule text collate "C" not null
column broker_cron.statement text not null
column broker_cron.user_login text
column broker_instance.host text not null
column broker_instance.id bigint not null generated always as identity
column broker_instance.in_session boolean not null default false
column broker_instance.last_ping_at timestamp with time zone not null default clock_timestamp()
column broker_instance.lost boolean not null default false
column broker_instance.name text not null
column broker_instance.pid integer not null
column broker_instance.queue_count integer not null
column broker_instance.shutdown_at timestamp with time zone
column broker_instance.started_at timestamp with time zone not null default clock_timestamp()
column broker_instance.version text not null
column broker_job.at timestamp with time zone not null default clock_timestamp()
column broker_job.depends_on bigint[]
column broker_job.job bigint not null
column broker_job.language text collate "C" not null
column broker_job.made_by text collate "C" not null
column broker_job.name text not null
column broker_job.own boolean not null default false
column broker_job.run_as text collate "C"
column broker_job.schedule bigint
column broker_job.statement text not null
column broker_job.user_login text
column broker_jobs.attempt integer
column broker_jobs.created_at timestamp with time zone
column broker_jobs.depends_on bigint[]
column broker_jobs.error text
column broker_jobs.execute_str text
column broker_jobs.finished_at timestamp with time zone
column broker_jobs.id bigint
column broker_jobs.instance_id bigint
column broker_jobs.job_language text collate "C"
column broker_jobs.job_name text
column broker_jobs.job_priority integer
column broker_jobs.job_queue integer
column broker_jobs.row_count bigint
column broker_jobs.run_as text collate "C"
column broker_jobs.schedule_id bigint
column broker_jobs.started_at timestamp with time zone
column broker_jobs.status text collate "C"
column broker_jobs.user_login text
column broker_queueinstance.host text
column broker_queueinstance.id bigint
column broker_queueinstance.last_ping_at timestamp with time zone
column broker_queueinstance.name text
column broker_queueinstance.pid integer
column broker_queueinstance.queue_count integer
column broker_queueinstance.shutdown_at timestamp with time zone
column broker_queueinstance.started_at timestamp with time zone
column broker_queueinstance.status text
column broker_queueinstance.version text
column broker_schedule.cron text
column broker_schedule.enabled boolean
column broker_schedule.execute_str text
column broker_schedule.id bigint
column broker_schedule.job_language text collate "C"
column broker_schedule.job_priority integer
column broker_schedule.job_queue integer
column broker_schedule.last_run_at timestamp with time zone
column broker_schedule.name text
column broker_schedule.next_run_at timestamp with time zone
column broker_schedule.run_as text collate "C"
column broker_schedule.timezone text
column broker_schedule.user_login text
column cancel_request.at timestamp with time zone not null default clock_timestamp()
column cancel_request.job bigint not null
column cancel_request.worker bigint not null
column dead.attempt integer not null
column dead.ended_at timestamp with time zone not null
column dead.headers jsonb
column dead.id bigint not null
column dead.lane bigint not null
column dead.options jsonb
column dead.payload jsonb
column dead.payload_bytes bytea
column dead.queued_at timestamp with time zone not null
column dead.reason text
column dead.state text collate "C" not null
column deferred.attempt integer not null
column deferred.due_at timestamp with time zone not null
column deferred.headers jsonb
column deferred.id bigint not null
column deferred.lane bigint not null
column deferred.options jsonb
column deferred.payload jsonb
column deferred.payload_bytes bytea
column deferred.queued_at timestamp with time zone not null
column deferred.state text collate "C" not null
column dependency.child bigint not null
column dependency.parent bigint not null
column dependency_check.at timestamp with time zone not null default clock_timestamp()
column dependency_check.fence xid8
column dependency_check.ok boolean
column dependency_check.parent bigint not null
column done.at timestamp with time zone not null default clock_timestamp()
column done.job bigint not null
column done.pos integer not null
column done.rescued boolean not null default false
column done.token bigint not null
column done.worker bigint not null
column enqueue_token.at timestamp with time zone not null default clock_timestamp()
column enqueue_token.fingerprint bytea not null
column enqueue_token.job bigint not null
column enqueue_token.status text collate "C"
column enqueue_token.token uuid not null
column expiry.at timestamp with time zone not null
column expiry.job bigint not null
column heartbeat.at timestamp with time zone not null default clock_timestamp()
column heartbeat.children integer
column heartbeat.cpu_ms bigint
column heartbeat.free integer not null
column heartbeat.low_token bigint not null
column heartbeat.rss_bytes bigint
column heartbeat.running integer not null
column heartbeat.worker bigint not null
column job.attempt integer not null default 0
column job.headers jsonb
column job.id bigint not null default nextval('job_id'::regclass)
column job.lane bigint not null
column job.options jsonb
column job.payload jsonb
column job.payload_bytes bytea
column job.queued_at timestamp with time zone not null default statement_timestamp()
column job.txid xid8 not null default pg_current_xact_id()
column jobs.attempt integer
column jobs.dedupe_key text
column jobs.depends_on bigint[]
column jobs.enqueued_at timestamp with time zone
column jobs.expires_at timestamp with time zone
column jobs.finished_at timestamp with time zone
column jobs.headers jsonb
column jobs.id bigint
column jobs.key text
column jobs.kind text collate "C"
column jobs.last_error text
column jobs.max_attempts integer
column jobs.payload jsonb
column jobs.payload_bytes bytea
column jobs.priority integer
column jobs.queue text collate "C"
column jobs.run_at timestamp with time zone
column jobs.started_at timestamp with time zone
column jobs.state text collate "C"
column jobs.waits_for bigint[]
column jobs.worker bigint
column key_check.at timestamp with time zone not null default clock_timestamp()
column key_check.key text collate "C" not null
column key_check.kind text collate "C" not null
column key_due.at timestamp with time zone not null
column key_due.key text collate "C" not null
column key_due.kind text collate "C" not null
column key_hold.at timestamp with time zone not null default clock_timestamp()
column key_hold.key text collate "C" not null
column key_hold.kind text collate "C" not null
column key_hold.said_by text
column key_hold.until timestamp with time zone not null
column key_rule.key text collate "C" not null
column key_rule.kind text collate "C" not null
column key_rule.paused boolean not null default false
column key_rule.paused_at timestamp with time zone
column key_turn.at timestamp with time zone not null default clock_timestamp()
column key_turn.holders bigint[] not null
column key_turn.key text collate "C" not null
column key_turn.kind text collate "C" not null
column key_turn.parked_last bigint not null
column key_turn.parked_to bigint not null
column key_turn.seq bigint not null
column kind.kind text collate "C" not null
column kind.paused boolean not null default false
column kind.paused_at timestamp with time zone
column kind_setting.at timestamp with time zone not null default clock_timestamp()
column kind_setting.kind text collate "C" not null
column kind_setting.name text collate "C" not null
column kind_setting.origin text collate "C" not null
column kind_setting.said_by text
column kind_setting.value text
column kind_settings.declared text
column kind_settings.kind text collate "C"
column kind_settings.name text collate "C"
column kind_settings.origin text collate "C"
column kind_settings.said_by text
column kind_settings.value text
column lane.express boolean not null default false
column lane.keyed boolean not null default false
column lane.kind text collate "C" not null
column lane.lane bigint not null
column lane.priority integer not null
column lane.queue text collate "C" not null
column lane.share text collate "C"
column lane_seen.express boolean not null default false
column lane_seen.keyed boolean not null default false
column lane_seen.kind text collate "C" not null
column lane_seen.lane bigint not null
column lane_seen.priority integer not null
column lane_seen.queue text collate "C" not null
column lane_seen.share text collate "C"
column leader.at timestamp with time zone not null default clock_timestamp()
column leader.id bigint not null generated always as identity
column leader.promoted_to timestamp with time zone not null
column leader.since timestamp with time zone not null default clock_timestamp()
column leader.term bigint not null
column leader.worker bigint not null
column limit_bucket.at timestamp with time zone not null
column limit_bucket.name text collate "C" not null
column limit_bucket.scope text collate "C" not null
column limit_bucket.seq bigint not null
column limit_bucket.tokens numeric not null
column limit_rule.at timestamp with time zone not null default clock_timestamp()
column limit_rule.burst integer
column limit_rule.concurrency integer
column limit_rule.held_until timestamp with time zone
column limit_rule.name text collate "C" not null
column limit_rule.origin text collate "C" not null
column limit_rule.per_second numeric
column limit_rule.said_by text
column limit_rule.scope text collate "C" not null
column limits.burst integer
column limits.concurrency integer
column limits.declared text
column limits.held_until timestamp with time zone
column limits.name text
column limits.origin text
column limits.per_second numeric
column limits.running bigint
column limits.said_by text
column limits.scope text
column limits.tokens numeric
column meta.key text collate "C" not null
column meta.value text not null
column migration.applied_at timestamp with time zone not null default clock_timestamp()
column migration.checksum text not null
column migration.name text not null
column migration.version integer not null
column parked.attempt integer not null
column parked.headers jsonb
column parked.id bigint not null
column parked.key text collate "C" not null
column parked.kind text collate "C" not null
column parked.lane bigint not null
column parked.options jsonb
column parked.parked_at timestamp with time zone not null default clock_timestamp()
column parked.payload jsonb
column parked.payload_bytes bytea
column parked.queued_at timestamp with time zone not null
column parked.seq bigint not null
column partition.detaching boolean
column partition.lower timestamp with time zone
column partition.name regclass
column partition.relname text collate "C"
column partition.upper timestamp with time zone
column progress.at timestamp with time zone not null
column progress.fraction real not null
column progress.job bigint not null
column progress.text text
column progress.token bigint not null
column progress.worker bigint not null
column queue.paused boolean not null default false
column queue.paused_at timestamp with time zone
column queue.priority integer not null default 0
column queue.queue text collate "C" not null
column result.at timestamp with time zone not null default clock_timestamp()
column result.job bigint not null
column result.problem text
column result.value jsonb
column result.value_bytes bytea
column schedule.anchor timestamp with time zone
column schedule.at timestamp with time zone
column schedule.cron text
column schedule.dedupe_key text
column schedule.dedupe_scope text collate "C" not null default 'unfinished'::text
column schedule.dedupe_window interval
column schedule.due_at timestamp with time zone
column schedule.edited_at timestamp with time zone not null default clock_timestamp()
column schedule.enabled boolean not null default true
column schedule.every interval
column schedule.expires_in interval
column schedule.headers jsonb
column schedule.jitter interval not null default '00:00:00'::interval
column schedule.key text
column schedule.kind text collate "C" not null
column schedule.last_error text
column schedule.last_fired_at timestamp with time zone
column schedule.last_job bigint
column schedule.last_tick timestamp with time zone
column schedule.masks bigint[]
column schedule.max_attempts integer
column schedule.misfire text collate "C" not null default 'latest'::text
column schedule.misfire_limit integer not null default 100
column schedule.name text collate "C" not null
column schedule.next_at timestamp with time zone
column schedule.on_duplicate text collate "C" not null default 'skip'::text
column schedule.open_jobs bigint[] not null default '{}'::bigint[]
column schedule.overlap text collate "C" not null default 'allow'::text
column schedule.owner text collate "C"
column schedule.paused boolean not null default false
column schedule.payload jsonb
column schedule.payload_bytes bytea
column schedule.priority integer not null default 0
column schedule.queue text collate "C" not null default 'default'::text
column schedule.time_zone text not null default 'UTC'::text
column schedule.timeout interval
column schedule_fire.at timestamp with time zone not null default clock_timestamp()
column schedule_fire.job bigint
column schedule_fire.note text
column schedule_fire.outcome text collate "C" not null
column schedule_fire.schedule text collate "C" not null
column schedule_fire.tick timestamp with time zone not null
column schedules.at timestamp with time zone
column schedules.cron text
column schedules.dedupe_key text
column schedules.dedupe_scope text collate "C"
column schedules.dedupe_window interval
column schedules.due_at timestamp with time zone
column schedules.enabled boolean
column schedules.every interval
column schedules.expires_in interval
column schedules.headers jsonb
column schedules.jitter interval
column schedules.key text
column schedules.kind text collate "C"
column schedules.last_error text
column schedules.last_fired_at timestamp with time zone
column schedules.last_job bigint
column schedules.last_tick timestamp with time zone
column schedules.max_attempts integer
column schedules.misfire text collate "C"
column schedules.misfire_limit integer
column schedules.name text collate "C"
column schedules.next_at timestamp with time zone
column schedules.on_duplicate text collate "C"
column schedules.overlap text collate "C"
column schedules.owner text collate "C"
column schedules.paused boolean
column schedules.payload jsonb
column schedules.payload_bytes bytea
column schedules.priority integer
column schedules.queue text collate "C"
column schedules.time_zone text
column schedules.timeout interval
column unique_key.job bigint not null
column unique_key.key text collate "C" not null
column unique_key.kind text collate "C" not null
column unique_key.scope text collate "C" not null
column unique_key.until timestamp with time zone
column worker.end_reason text
column worker.ended_at timestamp with time zone
column worker.host text not null
column worker.id bigint not null generated always as identity
column worker.kinds text[] not null
column worker.lease interval not null
column worker.max_attempts integer[] not null
column worker.name text not null
column worker.pid bigint not null
column worker.queues text[] not null
column worker.reaped_at timestamp with time zone
column worker.slots integer not null
column worker.started_at timestamp with time zone not null default clock_timestamp()
column worker.version text not null
constraint batch_pkey on batch PRIMARY KEY (lane, seq)
constraint broker_cron_name_key on broker_cron UNIQUE (name)
constraint broker_cron_pkey on broker_cron PRIMARY KEY (id)
constraint broker_cron_schedule_fkey on broker_cron FOREIGN KEY (schedule) REFERENCES schedule(name) ON DELETE CASCADE
constraint broker_cron_schedule_key on broker_cron UNIQUE (schedule)
constraint broker_instance_pkey on broker_instance PRIMARY KEY (id)
constraint broker_instance_queue_count_check on broker_instance CHECK (queue_count >= 0 AND queue_count <= 1000)
constraint broker_job_pkey on broker_job PRIMARY KEY (job)
constraint cancel_request_pkey on cancel_request PRIMARY KEY (job)
constraint dead_pkey on dead PRIMARY KEY (id)
constraint dead_state_check on dead CHECK (state = ANY (ARRAY['failed'::text, 'cancelled'::text, 'expired'::text]))
constraint deferred_pkey on deferred PRIMARY KEY (id)
constraint deferred_state_check on deferred CHECK (state = ANY (ARRAY['scheduled'::text, 'retryable'::text, 'blocked'::text]))
constraint dependency_pkey on dependency PRIMARY KEY (child, parent)
constraint done_pkey on done PRIMARY KEY (worker, token, pos)
constraint enqueue_token_pkey on enqueue_token PRIMARY KEY (token)
constraint key_rule_pkey on key_rule PRIMARY KEY (kind, key)
constraint kind_pkey on kind PRIMARY KEY (kind)
constraint kind_setting_name_check on kind_setting CHECK (name = ANY (ARRAY['weight'::text, 'fair_by'::text]))
constraint kind_setting_origin_check on kind_setting CHECK (origin = ANY (ARRAY['declared'::text, 'set'::text]))
constraint kind_setting_pkey on kind_setting PRIMARY KEY (kind, name, origin)
constraint lane_pkey on lane PRIMARY KEY (lane)
constraint leader_pkey on leader PRIMARY KEY (id)
constraint limit_bucket_pkey on limit_bucket PRIMARY KEY (scope, name, seq)
constraint limit_rule_burst_check on limit_rule CHECK (burst > 0)
constraint limit_rule_concurrency_check on limit_rule CHECK (concurrency > 0)
constraint limit_rule_held_check on limit_rule CHECK ((origin = 'held'::text) = (held_until IS NOT NULL))
constraint limit_rule_origin_check on limit_rule CHECK (origin = ANY (ARRAY['declared'::text, 'set'::text, 'held'::text]))
constraint limit_rule_per_second_check on limit_rule CHECK (per_second > 0::numeric)
constraint limit_rule_pkey on limit_rule PRIMARY KEY (name, scope, origin)
constraint limit_rule_scope_check on limit_rule CHECK (scope = ANY (ARRAY['kind'::text, 'queue'::text, 'all'::text, 'key'::text, 'key_rate'::text, 'serialized'::text]))
constraint meta_pkey on meta PRIMARY KEY (key)
constraint migration_pkey on migration PRIMARY KEY (version)
constraint parked_pkey on parked PRIMARY KEY (kind, key, seq)
constraint progress_pkey on progress PRIMARY KEY (job)
constraint queue_pkey on queue PRIMARY KEY (queue)
constraint result_check on result CHECK (num_nonnulls(value, value_bytes) <= 1 AND num_nonnulls(value, value_bytes, problem) >= 1)
constraint result_pkey on result PRIMARY KEY (job)
constraint schedule_check on schedule CHECK (num_nonnulls(cron, every, at) = 1)
constraint schedule_fire_outcome_check on schedule_fire CHECK (outcome = ANY (ARRAY['fired'::text, 'manual'::text, 'skipped'::text, 'missed'::text, 'failed'::text]))
constraint schedule_fire_pkey on schedule_fire PRIMARY KEY (schedule, tick)
constraint schedule_misfire_check on schedule CHECK (misfire = ANY (ARRAY['skip'::text, 'latest'::text, 'all'::text]))
constraint schedule_overlap_check on schedule CHECK (overlap = ANY (ARRAY['allow'::text, 'skip'::text, 'replace'::text]))
constraint schedule_pkey on schedule PRIMARY KEY (name)
constraint unique_key_pkey on unique_key PRIMARY KEY (kind, key)
constraint worker_pkey on worker PRIMARY KEY (id)
function add_schedule(text,text,text,interval,timestamp with time zone,text,jsonb,text,integer,jsonb,integer,interval,text,integer,text,boolean,bytea,text,text,text,interval,interval,interval,text) (name text, kind text, cron text DEFAULT NULL::text, every interval DEFAULT NULL::interval, at timestamp with time zone DEFAULT NULL::timestamp with time zone, time_zone text DEFAULT 'UTC'::text, payload jsonb DEFAULT NULL::jsonb, queue text DEFAULT 'default'::text, priority integer DEFAULT 0, headers jsonb DEFAULT NULL::jsonb, max_attempts integer DEFAULT NULL::integer, jitter interval DEFAULT '00:00:00'::interval, misfire text DEFAULT 'latest'::text, misfire_limit integer DEFAULT 100, overlap text DEFAULT 'allow'::text, enabled boolean DEFAULT true, payload_bytes bytea DEFAULT NULL::bytea, dedupe_key text DEFAULT NULL::text, on_duplicate text DEFAULT 'skip'::text, dedupe_scope text DEFAULT 'unfinished'::text, dedupe_window interval DEFAULT NULL::interval, expires_in interval DEFAULT NULL::interval, timeout interval DEFAULT NULL::interval, key text DEFAULT NULL::text) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function add_schedule_json(text,jsonb) (name text, definition jsonb) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function adopt() () returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function ahead(bigint,integer) (id bigint, most integer DEFAULT 1000) returns bigint language sql stable security definer set jit=off set search_path=<schema>, pg_temp
function amend_job(bigint,text,jsonb,bytea,jsonb,timestamp with time zone) (p_job bigint, p_how text, p_payload jsonb, p_payload_bytes bytea, p_headers jsonb, p_due timestamp with time zone) returns boolean language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function apply_moves(bigint,bigint[],jsonb) (p_worker bigint, p_tokens bigint[], p_moves jsonb) returns void language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function backlog() () returns TABLE(queue text, kind text, state text, jobs bigint, oldest_at timestamp with time zone) language sql stable security definer set jit=off set search_path=<schema>, pg_temp
function batch_of(bigint,xid8,bigint) (p_lane bigint, p_txid xid8, p_id bigint) returns batch language plpgsql stable security definer set search_path=<schema>, pg_temp
function beat(bigint,bigint,integer,integer,bigint,bigint,integer) (p_worker bigint, p_low_token bigint, p_free integer, p_running integer, p_rss_bytes bigint DEFAULT NULL::bigint, p_cpu_ms bigint DEFAULT NULL::bigint, p_children integer DEFAULT NULL::integer) returns jsonb language plpgsql volatile security definer set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function bell(bigint[]) (lanes bigint[]) returns bigint[] language sql volatile security definer set search_path=<schema>, pg_temp
function bound_wait() () returns boolean language sql volatile
function broker_add_job(text,text,integer,integer,text,text,text,bigint,bigint[]) (job_name text, execute_str text, job_queue integer DEFAULT 1, job_priority integer DEFAULT 0, job_language text DEFAULT 'sql'::text, run_as text DEFAULT NULL::text, user_login text DEFAULT NULL::text, schedule_id bigint DEFAULT NULL::bigint, depends_on bigint[] DEFAULT NULL::bigint[]) returns bigint language plpgsql volatile set search_path=<schema>, pg_temp
function broker_check(text,text,integer,integer,text,text,text,boolean) (p_name text, p_statement text, p_queue integer, p_priority integer, p_language text, p_run_as text, p_login text, p_own boolean) returns void language plpgsql stable security definer set search_path=<schema>, pg_temp
function broker_claim_of(bigint) (p_job bigint, OUT worker bigint, OUT token bigint, OUT attempt integer, OUT max_attempts integer) returns record language plpgsql volatile security definer set search_path=<schema>, pg_temp
function broker_edit_schedule() () returns trigger language plpgsql volatile set search_path=<schema>, pg_temp
function broker_enqueue(text,text,integer,integer,text,text,text,bigint,bigint[],boolean) (p_name text, p_statement text, p_queue integer, p_priority integer, p_language text, p_run_as text, p_login text, p_schedule bigint, p_depends_on bigint[], p_own boolean) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function broker_execute(text,text,jsonb,text) (language text, statement text, facts jsonb, problem text) returns jsonb language plpgsql volatile
function broker_finish(bigint,jsonb) (p_job bigint, p_result jsonb) returns jsonb language plpgsql volatile security definer set search_path=<schema>, pg_temp
function broker_fired(text,bigint) (p_schedule text, p_job bigint) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function broker_get(integer,bigint) (job_queue integer DEFAULT 1, instance_id bigint DEFAULT NULL::bigint) returns SETOF broker_jobs language plpgsql volatile security definer set search_path=<schema>, pg_temp
function broker_held(bigint) (p_job bigint, OUT job bigint, OUT language text, OUT statement text, OUT facts jsonb, OUT problem text) returns record language plpgsql volatile security definer set search_path=<schema>, pg_temp
function broker_is_alive(broker_instance) (b broker_instance) returns boolean language plpgsql volatile set search_path=<schema>, pg_temp
function broker_lapse() () returns interval language sql immutable parallel safe
function broker_lock_key() () returns integer language sql immutable parallel safe
function broker_names() () returns text[] language sql immutable parallel safe
function broker_payload(text,text,text,text,text) (p_name text, p_statement text, p_language text, p_run_as text, p_login text) returns jsonb language plpgsql stable security definer set search_path=<schema>, pg_temp
function broker_ping_instance(bigint,boolean,integer) (id bigint, hold_session boolean DEFAULT false, queue_count integer DEFAULT NULL::integer) returns boolean language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function broker_publish(text) (target text) returns void language plpgsql volatile set search_path=<schema>, pg_temp
function broker_register_instance(text,text,integer,text,integer) (name text, host text, pid integer, version text, queue_count integer) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function broker_remove_schedule(bigint) (p_id bigint) returns boolean language plpgsql volatile security definer set search_path=<schema>, pg_temp
function broker_role_problem(text,text) (p_by text, p_role text) returns text language plpgsql stable security definer set search_path=<schema>, pg_temp
function broker_run(bigint) (job_id bigint) returns jsonb language sql volatile
function broker_save_schedule(bigint,jsonb,boolean) (p_id bigint, p_row jsonb, p_own boolean) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function broker_session(integer,bigint) (p_queue integer, p_instance bigint, OUT worker bigint, OUT token bigint) returns record language plpgsql volatile security definer set search_path=<schema>, pg_temp
function broker_set(text,text) (option text, value text) returns void language plpgsql volatile set search_path=<schema>, pg_temp
function broker_shutdown_instance(bigint) (id bigint) returns boolean language plpgsql volatile security definer set search_path=<schema>, pg_temp
function broker_start(bigint) (p_job bigint, OUT name text, OUT statement text, OUT run_as text, OUT user_login text, OUT is_own_login boolean, OUT problem text) returns record language plpgsql stable security definer set search_path=<schema>, pg_temp
function broker_unpublish() () returns void language plpgsql volatile set search_path=<schema>, pg_temp
function bucket_of_key(text,text) (p_kind text, p_key text) returns text language sql immutable parallel safe
function buffer_bell(bigint,boolean) (p_worker bigint, p_on boolean) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function buffer_key(bigint) (p_worker bigint) returns integer language sql immutable
function buffer_waits() () returns boolean language sql volatile
function cancel(bigint) (id bigint) returns text language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function cancels_of(bigint) (p_worker bigint) returns bigint[] language plpgsql stable security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function change_limit(text,text,jsonb) (scope text, name text, changes jsonb) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function channel() () returns text language sql stable security definer set search_path=<schema>, pg_temp
function check_dead(text,integer) (p_state text, p_limit integer) returns void language plpgsql immutable set search_path=<schema>, pg_temp
function check_enqueue(jsonb,bytea,timestamp with time zone,interval,jsonb,integer) (p_payload jsonb, p_payload_bytes bytea, p_run_at timestamp with time zone, p_delay interval, p_headers jsonb, p_max_attempts integer) returns timestamp with time zone language plpgsql stable security definer set search_path=<schema>, pg_temp
function check_identity() () returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function check_key(text) (p_key text) returns void language plpgsql immutable set search_path=<schema>, pg_temp
function check_kind_setting(text,text,text) (p_kind text, p_name text, p_value text) returns void language plpgsql immutable set search_path=<schema>, pg_temp
function check_limit(text,text,integer,numeric,integer) (p_scope text, p_name text, p_concurrency integer, p_per_second numeric, p_burst integer) returns void language plpgsql stable set search_path=<schema>, pg_temp
function check_many(jsonb) (jobs jsonb) returns boolean language plpgsql volatile security definer set jit=off set search_path=<schema>, pg_temp
function check_many_depends(jsonb) (jobs jsonb) returns void language plpgsql volatile security definer set jit=off set search_path=<schema>, pg_temp
function check_name(text,text) (p_what text, p_name text) returns void language plpgsql immutable set search_path=<schema>, pg_temp
function check_preview(integer) (p_n integer) returns void language plpgsql immutable set search_path=<schema>, pg_temp
function check_reschedule(text,timestamp with time zone,interval) (p_on_duplicate text, p_run_at timestamp with time zone, p_delay interval) returns void language plpgsql immutable security definer set search_path=<schema>, pg_temp
function check_time_zone(text) (p_zone text) returns void language plpgsql stable set search_path=<schema>, pg_temp
function check_unique(text,text,text,interval) (p_key text, p_on_duplicate text, p_scope text, p_window interval) returns void language plpgsql immutable security definer set search_path=<schema>, pg_temp
function children_of_dead() () returns trigger language plpgsql volatile security definer set search_path=<schema>, pg_temp
function claim(bigint,bigint,bigint[],integer,integer) (p_worker bigint, p_token bigint, p_lanes bigint[], p_n integer, p_start integer) returns TABLE(token bigint, lane bigint, pos integer, id bigint, attempt integer, payload jsonb, payload_bytes bytea, headers jsonb, options jsonb) language sql volatile security definer set search_path=<schema>, pg_temp
function claim_keyed(bigint,bigint,bigint,bigint,pg_snapshot,pg_snapshot,xid8[],bigint[],xid8[],bigint[],integer,integer) (p_worker bigint, p_token bigint, p_lane bigint, p_seq bigint, p_lo pg_snapshot, p_hi pg_snapshot, a xid8[], ai bigint[], b xid8[], bi bigint[], p_want integer, p_start integer) returns TABLE(token bigint, lane bigint, pos integer, id bigint, attempt integer, payload jsonb, payload_bytes bytea, headers jsonb, options jsonb) language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function complete(bigint,bigint,integer,bigint) (p_worker bigint, p_token bigint, p_pos integer, p_job bigint) returns boolean language plpgsql volatile security definer set search_path=<schema>, pg_temp
function complete_with(bigint,bigint,integer,bigint,jsonb,bytea,text) (p_worker bigint, p_token bigint, p_pos integer, p_job bigint, p_value jsonb, p_bytes bytea, p_problem text) returns boolean language plpgsql volatile security definer set search_path=<schema>, pg_temp
function counts() () returns TABLE(queue text, kind text, state text, jobs bigint) language plpgsql stable security definer set enable_seqscan=on set jit=off set search_path=<schema>, pg_temp
function cron_bit(bigint,integer) (mask bigint, from_bit integer) returns integer language sql immutable parallel safe
function cron_field(text,text,text,integer,integer,text[]) (p_cron text, p_field text, p_name text, p_low integer, p_high integer, p_names text[] DEFAULT '{}'::text[]) returns bigint language plpgsql immutable set search_path=<schema>, pg_temp
function cron_local(bigint[],timestamp without time zone) (m bigint[], p_after timestamp without time zone) returns timestamp without time zone language plpgsql immutable set search_path=<schema>, pg_temp
function cron_masks(text) (cron text) returns bigint[] language plpgsql immutable set search_path=<schema>, pg_temp
function cron_next(bigint[],text,timestamp with time zone) (m bigint[], zone text, p_after timestamp with time zone) returns timestamp with time zone language plpgsql stable set search_path=<schema>, pg_temp
function dead_batch(text,text,text,timestamp with time zone,bigint,integer) (p_state text, p_kind text, p_queue text, p_before timestamp with time zone, p_after bigint, p_limit integer) returns bigint[] language plpgsql volatile security definer set jit=off set search_path=<schema>, pg_temp
function declare_kinds(jsonb,text) (kinds jsonb, said_by text DEFAULT NULL::text) returns TABLE(kind text, name text, old_value text, new_value text, hidden boolean) language plpgsql volatile security definer set search_path=<schema>, pg_temp
function declare_limits(jsonb,text) (limits jsonb, said_by text DEFAULT NULL::text) returns TABLE(scope text, name text, old_value text, new_value text, hidden boolean) language plpgsql volatile security definer set search_path=<schema>, pg_temp
function delete_job(bigint) (id bigint) returns boolean language plpgsql volatile security definer set search_path=<schema>, pg_temp
function dependency_lock() () returns integer language sql immutable parallel safe
function depends_options(bigint[],boolean) (p_depends_on bigint[], p_all_ok boolean) returns jsonb language plpgsql immutable set search_path=<schema>, pg_temp
function detached() () returns SETOF text language sql stable security definer set search_path=<schema>, pg_temp
function doctor() () returns TABLE(subject text, level text, finding text, mend text) language sql volatile security definer set jit=off set search_path=<schema>, pg_temp
function done_channel() () returns text language sql stable security definer set search_path=<schema>, pg_temp
function drain_duties() () returns bigint language plpgsql volatile security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function drop_detached(text) (p_relname text) returns boolean language plpgsql volatile security definer set lock_timeout=50ms set search_path=<schema>, pg_temp
function drop_key(bigint,bigint,jsonb) (p_job bigint, p_lane bigint, p_options jsonb) returns void language sql volatile security definer set search_path=<schema>, pg_temp
function droppable() () returns SETOF text language plpgsql stable security definer set search_path=<schema>, pg_temp
function duties(bigint) (p_worker bigint) returns jsonb language plpgsql volatile security definer set search_path=<schema>, pg_temp
function end_late(integer) (p_limit integer DEFAULT 1000) returns bigint language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function end_reason(text) (p_state text) returns text language sql immutable parallel safe
function end_waiting(bigint,text,boolean) (p_id bigint, p_state text, p_wait boolean) returns text language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function ended_rows(text[],text[],bigint[]) (p_kinds text[], p_keys text[], p_ids bigint[]) returns TABLE(kind text, key text, id bigint) language sql immutable set search_path=<schema>, pg_temp
function enqueue(text,jsonb,text,integer,timestamp with time zone,interval,jsonb,integer,text,text,text,interval,uuid,timestamp with time zone,interval,interval,text,bigint[],boolean) (kind text, payload jsonb DEFAULT NULL::jsonb, queue text DEFAULT 'default'::text, priority integer DEFAULT 0, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, delay interval DEFAULT NULL::interval, headers jsonb DEFAULT NULL::jsonb, max_attempts integer DEFAULT NULL::integer, dedupe_key text DEFAULT NULL::text, on_duplicate text DEFAULT 'skip'::text, dedupe_scope text DEFAULT 'unfinished'::text, dedupe_window interval DEFAULT NULL::interval, token uuid DEFAULT NULL::uuid, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, expires_in interval DEFAULT NULL::interval, timeout interval DEFAULT NULL::interval, key text DEFAULT NULL::text, depends_on bigint[] DEFAULT NULL::bigint[], depends_on_all_ok boolean DEFAULT true) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function enqueue_bytes(text,bytea,text,integer,timestamp with time zone,interval,jsonb,integer,text,text,text,interval,uuid,timestamp with time zone,interval,interval,text,bigint[],boolean) (kind text, payload bytea, queue text DEFAULT 'default'::text, priority integer DEFAULT 0, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, delay interval DEFAULT NULL::interval, headers jsonb DEFAULT NULL::jsonb, max_attempts integer DEFAULT NULL::integer, dedupe_key text DEFAULT NULL::text, on_duplicate text DEFAULT 'skip'::text, dedupe_scope text DEFAULT 'unfinished'::text, dedupe_window interval DEFAULT NULL::interval, token uuid DEFAULT NULL::uuid, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, expires_in interval DEFAULT NULL::interval, timeout interval DEFAULT NULL::interval, key text DEFAULT NULL::text, depends_on bigint[] DEFAULT NULL::bigint[], depends_on_all_ok boolean DEFAULT true) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function enqueue_many(jsonb) (jobs jsonb) returns bigint[] language plpgsql volatile security definer set jit=off set search_path=<schema>, pg_temp
function enqueue_many_outcome(jsonb) (jobs jsonb) returns TABLE(id bigint, status text) language plpgsql volatile security definer set jit=off set search_path=<schema>, pg_temp
function enqueue_one(text,jsonb,bytea,text,integer,timestamp with time zone,interval,jsonb,integer,bigint,jsonb) (p_kind text, p_payload jsonb, p_payload_bytes bytea, p_queue text, p_priority integer, p_run_at timestamp with time zone, p_delay interval, p_headers jsonb, p_max_attempts integer, p_id bigint DEFAULT NULL::bigint, p_options jsonb DEFAULT NULL::jsonb) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function enqueue_outcome(text,jsonb,bytea,text,integer,timestamp with time zone,interval,jsonb,integer,text,text,text,interval,uuid,timestamp with time zone,interval,interval,text,bigint[],boolean) (kind text, payload jsonb DEFAULT NULL::jsonb, payload_bytes bytea DEFAULT NULL::bytea, queue text DEFAULT 'default'::text, priority integer DEFAULT 0, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, delay interval DEFAULT NULL::interval, headers jsonb DEFAULT NULL::jsonb, max_attempts integer DEFAULT NULL::integer, dedupe_key text DEFAULT NULL::text, on_duplicate text DEFAULT 'skip'::text, dedupe_scope text DEFAULT 'unfinished'::text, dedupe_window interval DEFAULT NULL::interval, token uuid DEFAULT NULL::uuid, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, expires_in interval DEFAULT NULL::interval, timeout interval DEFAULT NULL::interval, key text DEFAULT NULL::text, depends_on bigint[] DEFAULT NULL::bigint[], depends_on_all_ok boolean DEFAULT true, OUT id bigint, OUT status text) returns record language plpgsql volatile security definer set search_path=<schema>, pg_temp
function enqueue_unique(text,jsonb,bytea,text,integer,timestamp with time zone,interval,jsonb,integer,text,text,text,interval,uuid,jsonb) (p_kind text, p_payload jsonb, p_payload_bytes bytea, p_queue text, p_priority integer, p_run_at timestamp with time zone, p_delay interval, p_headers jsonb, p_max_attempts integer, p_key text, p_on_duplicate text, p_scope text, p_window interval, p_token uuid, p_time jsonb DEFAULT NULL::jsonb, OUT id bigint, OUT status text) returns record language plpgsql volatile security definer set search_path=<schema>, pg_temp
function express_of(bigint) (p_lane bigint) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function fair_by_of(text) (p_kind text) returns text language plpgsql stable security definer set search_path=<schema>, pg_temp
function fence() () returns xid8 language sql volatile security definer set search_path=<schema>, pg_temp
function fence_passed(xid8) (fence xid8) returns boolean language sql volatile security definer set search_path=<schema>, pg_temp
function fenced_moves(bigint,bigint[],jsonb) (p_worker bigint, p_tokens bigint[], p_moves jsonb) returns TABLE(token bigint, pos integer, id bigint, outcome text, delay_ms bigint, type text, message text, stack text, hold_ms bigint, crashes integer, lane bigint) language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=on set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function fenced_results(bigint,bigint[],jsonb) (p_worker bigint, p_tokens bigint[], p_results jsonb) returns TABLE(job bigint, value text, bytes text, problem text) language sql volatile security definer set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function fingerprint(text,jsonb,bytea,text,integer,jsonb,text,text) (p_kind text, p_payload jsonb, p_payload_bytes bytea, p_queue text, p_priority integer, p_headers jsonb, p_key text, p_turn_key text) returns bytea language sql immutable parallel safe set search_path=<schema>, pg_temp
function finish(bigint,bigint[],text[],integer[],jsonb,jsonb,boolean) (p_worker bigint, p_tokens bigint[], p_acked text[], p_started integer[], p_moves jsonb, p_results jsonb DEFAULT NULL::jsonb, p_tell boolean DEFAULT true) returns bigint[] language plpgsql volatile security definer set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function finish_and_claim(bigint,bigint[],text[],integer[],jsonb,bigint,bigint[],integer,integer,jsonb) (p_worker bigint, p_tokens bigint[], p_acked text[], p_started integer[], p_moves jsonb, p_token bigint, p_lanes bigint[], p_n integer, p_start integer, p_results jsonb DEFAULT NULL::jsonb) returns TABLE(token bigint, lane bigint, pos integer, id bigint, attempt integer, payload jsonb, payload_bytes bytea, headers jsonb, options jsonb) language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function finish_and_claim_one(bigint,bigint,bigint,bigint,boolean) (p_worker bigint, p_done bigint, p_token bigint, p_lane bigint, p_wake boolean DEFAULT true) returns TABLE(token bigint, lane bigint, pos integer, id bigint, attempt integer, payload jsonb, payload_bytes bytea, headers jsonb, options jsonb) language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set enable_sort=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function fire_schedule(schedule,timestamp with time zone) (s schedule, p_now timestamp with time zone) returns integer language plpgsql volatile security definer set TimeZone=UTC set lock_timeout=250ms set search_path=<schema>, pg_temp
function fire_schedules(timestamp with time zone,timestamp with time zone,integer) (p_now timestamp with time zone DEFAULT clock_timestamp(), p_from timestamp with time zone DEFAULT '-infinity'::timestamp with time zone, p_limit integer DEFAULT 1000) returns bigint language plpgsql volatile security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function fold_lanes() () returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function free_keys(bigint,bigint[],boolean) (p_worker bigint, p_tokens bigint[], p_moved boolean) returns void language plpgsql volatile security definer set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function give_back(bigint,bigint[]) (p_worker bigint, p_tokens bigint[]) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function grant_group(text,text) (p_group text, p_in text) returns void language plpgsql volatile set search_path=<schema>, pg_temp
function grant_roles() () returns void language plpgsql volatile set search_path=<schema>, pg_temp
function hand_on_keys(text[],text[],bigint[]) (p_kinds text[], p_keys text[], p_ids bigint[]) returns bigint language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=on set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function has_dependents() () returns boolean language sql volatile
function has_rules() () returns boolean language sql volatile
function has_sleeper(bigint) (lane bigint) returns boolean language sql volatile
function has_unfinished(text) (p_relname text) returns boolean language plpgsql stable security definer set jit=off set search_path=<schema>, pg_temp
function held() () returns TABLE(id bigint, lane bigint, worker bigint, claimed_at timestamp with time zone, started boolean) language sql stable security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function hold_key(text,text,interval,text) (kind text, key text, hold interval, said_by text DEFAULT NULL::text) returns timestamp with time zone language plpgsql volatile security definer set search_path=<schema>, pg_temp
function hold_kind(text,interval,text) (kind text, hold interval, said_by text DEFAULT NULL::text) returns timestamp with time zone language plpgsql volatile security definer set search_path=<schema>, pg_temp
function holds_key(unique_key) (u unique_key) returns boolean language plpgsql stable security definer set search_path=<schema>, pg_temp
function id_or_mismatch(bigint,text,uuid) (p_id bigint, p_status text, p_token uuid) returns bigint language plpgsql immutable security definer set search_path=<schema>, pg_temp
function identity_now() () returns text language sql stable security definer set search_path=<schema>, pg_temp
function identity_of(bigint,oid,name) (cluster bigint, database oid, name name) returns text language sql stable
function in_limbo() () returns boolean language sql stable security definer set search_path=<schema>, pg_temp
function insert_dependent(jsonb,bigint[],text[]) (jobs jsonb, p_ids bigint[], p_status text[]) returns void language plpgsql volatile security definer set jit=off set search_path=<schema>, pg_temp
function insert_many(jsonb,bigint[],text[]) (jobs jsonb, p_ids bigint[], p_status text[]) returns void language plpgsql volatile security definer set jit=off set search_path=<schema>, pg_temp
function install_roles(text) (prefix text DEFAULT NULL::text) returns void language plpgsql volatile set search_path=<schema>, pg_temp
function is_claimed(xid8,bigint,pg_snapshot,pg_snapshot,xid8,bigint) (txid xid8, id bigint, lo pg_snapshot, hi pg_snapshot, pos_txid xid8, pos_id bigint) returns boolean language sql immutable parallel safe
function is_claimed_now(bigint,xid8,bigint) (p_lane bigint, p_txid xid8, p_job bigint) returns boolean language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function is_expired(jsonb,text) (p_options jsonb, p_now text) returns boolean language sql immutable parallel safe
function is_paced(text) (p_kind text) returns boolean language plpgsql stable security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function is_serialized(text) (p_kind text) returns boolean language plpgsql stable security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function is_unfinished(bigint) (p_job bigint) returns boolean language sql stable security definer set search_path=<schema>, pg_temp
function is_waited_for(bigint) (job bigint) returns boolean language sql volatile
function job_options(jsonb,text,bigint[],boolean) (p_time jsonb, p_key text, p_depends_on bigint[] DEFAULT NULL::bigint[], p_all_ok boolean DEFAULT true) returns jsonb language plpgsql immutable set search_path=<schema>, pg_temp
function keep(text) (profile text) returns boolean language sql volatile security definer set search_path=<schema>, pg_temp
function keep_results(bigint,bigint[],jsonb) (p_worker bigint, p_tokens bigint[], p_results jsonb) returns void language plpgsql volatile security definer set enable_hashjoin=on set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function key_held_until(text,text,timestamp with time zone) (p_kind text, p_key text, p_now timestamp with time zone) returns timestamp with time zone language plpgsql stable security definer set enable_bitmapscan=off set enable_seqscan=off set enable_sort=off set jit=off set search_path=<schema>, pg_temp
function key_limit(text) (p_kind text) returns integer language plpgsql stable security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function key_list(text,integer) (p_kind text DEFAULT NULL::text, p_limit integer DEFAULT 1000) returns TABLE(kind text, key text, paused boolean, "limit" integer, holders bigint[], parked bigint, since timestamp with time zone, paused_at timestamp with time zone, held_until timestamp with time zone, free_at timestamp with time zone) language sql volatile security definer set search_path=<schema>, pg_temp
function key_lock(text) (p_kind text) returns integer language sql immutable parallel safe
function key_of_job(bigint) (id bigint) returns TABLE(kind text, key text, paused boolean, "limit" integer, holders bigint[], ahead bigint, paused_at timestamp with time zone, held_until timestamp with time zone, free_at timestamp with time zone, per_second numeric) language sql stable security definer set search_path=<schema>, pg_temp
function key_options(text,text) (p_key text, p_scope text) returns jsonb language sql stable parallel safe
function key_pace(text,text,timestamp with time zone) (p_kind text, p_key text, p_now timestamp with time zone, OUT room integer, OUT next_at timestamp with time zone) returns record language plpgsql stable security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function key_pace_room(text,text,bigint[]) (p_kind text, p_key text, p_holders bigint[]) returns integer language plpgsql volatile security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function key_rate(text) (p_kind text, OUT per_second numeric, OUT burst integer) returns record language plpgsql stable security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function key_space() () returns integer language sql immutable parallel safe
function key_started(text,text,integer,timestamp with time zone) (p_kind text, p_key text, p_n integer, p_now timestamp with time zone) returns void language plpgsql volatile security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function key_state(bigint) (p_job bigint) returns text language plpgsql stable security definer set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function keyed_lane_of(text,text,integer,boolean) (queue text, kind text, priority integer, express boolean) returns bigint language sql immutable parallel safe
function kind_setting_of(text,text) (p_kind text, p_name text) returns text language plpgsql stable security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function lane_of(text,text,integer,boolean) (queue text, kind text, priority integer, express boolean) returns bigint language sql immutable parallel safe
function lane_of_element(jsonb) (e jsonb) returns bigint language sql immutable parallel safe
function lane_turns(bigint[]) (lanes bigint[]) returns TABLE(lane bigint, queue text, kind text, priority integer, queue_priority integer, weight integer) language plpgsql stable security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function lanes_of_tenants(jsonb) (jobs jsonb) returns bigint[] language plpgsql volatile security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function lanes_of_worker(bigint) (p_worker bigint) returns TABLE(lane bigint, queue_priority integer, priority integer, express boolean) language sql stable security definer set search_path=<schema>, pg_temp
function lead(bigint) (p_worker bigint) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function leave(bigint) (p_worker bigint) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function limit_bell(boolean) (p_on boolean) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function limit_claimed(bigint,integer) (p_lane bigint, p_n integer) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function limit_key(text,text) (p_scope text, p_name text) returns integer language sql immutable parallel safe
function limit_list() () returns TABLE(scope text, name text, origin text, concurrency integer, per_second numeric, burst integer, declared text, running bigint, tokens numeric, said_by text, held_until timestamp with time zone) language sql volatile security definer set search_path=<schema>, pg_temp
function limit_room(bigint,integer,boolean,boolean,text[],bigint[]) (p_lane bigint, p_want integer, p_lock boolean, p_wait boolean, p_full text[], p_waits bigint[], OUT room integer, OUT wait_ms bigint, OUT full_limit text) returns record language plpgsql volatile security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function limit_running(text,text) (p_scope text, p_name text) returns bigint language plpgsql stable security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function limit_take(text,text,numeric,integer,integer,timestamp with time zone) (p_scope text, p_name text, p_per_second numeric, p_burst integer, p_n integer, p_now timestamp with time zone) returns void language plpgsql volatile security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function limit_text(integer,numeric,integer) (p_concurrency integer, p_per_second numeric, p_burst integer) returns text language sql immutable set search_path=<schema>, pg_temp
function limit_tokens(text,text,numeric,integer,timestamp with time zone) (p_scope text, p_name text, p_per_second numeric, p_burst integer, p_now timestamp with time zone) returns numeric language plpgsql stable security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function limit_waits() () returns boolean language sql volatile
function limits_of(bigint) (p_lane bigint) returns TABLE(scope text, name text, concurrency integer, per_second numeric, burst integer, held_until timestamp with time zone) language plpgsql stable security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function limits_on(bigint) (id bigint) returns TABLE(scope text, name text, concurrency integer, running bigint, holders jsonb, per_second numeric, free_at timestamp with time zone, held_until timestamp with time zone) language plpgsql volatile security definer set jit=off set search_path=<schema>, pg_temp
function lock_blocked(bigint[],boolean) (p_ids bigint[], p_wait boolean) returns bigint[] language plpgsql volatile security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set lock_timeout=200ms set search_path=<schema>, pg_temp
function lock_keys(bigint,boolean) (p_lane bigint, p_wait boolean) returns boolean language plpgsql volatile security definer set lock_timeout=200ms set search_path=<schema>, pg_temp
function lock_limits(text) (p_name text) returns void language sql volatile security definer set search_path=<schema>, pg_temp
function lock_schedules() () returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function lock_worker(bigint) (worker bigint) returns text language sql volatile
function look(bigint) (p_worker bigint) returns bigint[] language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set enable_sort=on set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function look_at_key(text,text,timestamp with time zone) (p_kind text, p_key text, p_at timestamp with time zone) returns void language plpgsql volatile security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function mark_rules() () returns trigger language plpgsql volatile security definer set search_path=<schema>, pg_temp
function may_notify() () returns boolean language sql volatile
function measure(integer) (most integer DEFAULT 10000) returns TABLE(name text, queue text, kind text, state text, value double precision) language plpgsql stable security definer set enable_bitmapscan=off set enable_seqscan=off set enable_sort=off set jit=off set search_path=<schema>, pg_temp
function meet_lane(bigint,text,text,integer,boolean,text) (p_lane bigint, p_queue text, p_kind text, p_priority integer, p_keyed boolean DEFAULT false, p_share text DEFAULT NULL::text) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function met_rows(bigint[],xid8[],text[],bigint[]) (p_ids bigint[], p_txids xid8[], p_keys text[], p_sizes bigint[]) returns TABLE(id bigint, txid xid8, key text, size bigint, ord bigint) language sql immutable set search_path=<schema>, pg_temp
function missing_schedule(text) (p_name text) returns void language plpgsql volatile set search_path=<schema>, pg_temp
function move_rows(jsonb) (p_moves jsonb) returns TABLE(token bigint, pos integer, id bigint, outcome text, delay_ms bigint, type text, message text, stack text, hold_ms bigint, crashes integer) language sql stable
function need_read_committed(text) (p_what text) returns void language plpgsql stable set search_path=<schema>, pg_temp
function next_fire(timestamp with time zone) (p_from timestamp with time zone) returns timestamp with time zone language plpgsql stable security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function next_key_look(timestamp with time zone) (p_from timestamp with time zone) returns timestamp with time zone language plpgsql volatile security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function note_due_keys(timestamp with time zone) (p_from timestamp with time zone) returns void language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function note_key(bigint,jsonb) (p_lane bigint, p_options jsonb) returns void language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function note_keys(text) (p_kind text) returns void language sql volatile security definer set search_path=<schema>, pg_temp
function open_lane(text,text,integer) (kind text, queue text DEFAULT 'default'::text, priority integer DEFAULT 0) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function open_lane_for(text,text,integer,jsonb) (kind text, queue text, priority integer, headers jsonb, OUT lane bigint, OUT fair_by text) returns record language plpgsql volatile security definer set search_path=<schema>, pg_temp
function outcome(bigint[]) (VARIADIC ids bigint[]) returns TABLE(id bigint, state text, result jsonb, result_bytes bytea, result_problem text, error text, progress real, progress_text text, progress_at timestamp with time zone) language sql stable security definer set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function parent_reason(bigint) (p_job bigint) returns text language sql stable security definer set search_path=<schema>, pg_temp
function parent_state(bigint) (p_job bigint) returns text language plpgsql stable security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function parents_in(jsonb) (p_options jsonb) returns bigint[] language sql immutable parallel safe
function pause_key(text,text) (kind text, key text) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function pause_kind(text) (kind text) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function pause_queue(text) (queue text) returns void language sql volatile security definer set search_path=<schema>, pg_temp
function pause_schedule(text) (name text) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function payload_size(jsonb) (p_payload jsonb) returns bigint language sql immutable security definer set search_path=<schema>, pg_temp
function peers(bigint) (p_worker bigint) returns integer language sql stable security definer set search_path=<schema>, pg_temp
function ping_workers(bigint[]) (ids bigint[]) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function preview_cron(text,text,integer,timestamp with time zone) (cron text, time_zone text DEFAULT 'UTC'::text, n integer DEFAULT 10, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone) returns TABLE(tick timestamp with time zone, local_time timestamp without time zone) language plpgsql stable security definer set search_path=<schema>, pg_temp
function preview_schedule(text,integer,timestamp with time zone) (name text, n integer DEFAULT 10, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone) returns TABLE(tick timestamp with time zone, local_time timestamp without time zone) language plpgsql stable security definer set search_path=<schema>, pg_temp
function promote(timestamp with time zone,integer) (p_from timestamp with time zone DEFAULT '-infinity'::timestamp with time zone, p_limit integer DEFAULT 5000) returns bigint language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function prune(integer) (p_limit integer DEFAULT 5000) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function prune_broker_jobs(timestamp with time zone,integer) (p_before timestamp with time zone, p_limit integer) returns bigint language plpgsql volatile security definer set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function prune_dependencies(integer) (p_limit integer) returns void language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function prune_key_pace(integer) (p_limit integer) returns bigint language plpgsql volatile security definer set enable_seqscan=on set jit=off set search_path=<schema>, pg_temp
function prune_key_turns(integer) (p_limit integer) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function prune_keys_of_dead(timestamp with time zone,integer) (p_before timestamp with time zone, p_limit integer) returns void language plpgsql volatile security definer set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function prune_limits() () returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function prune_rules() () returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function prune_unique(integer) (p_limit integer) returns bigint language plpgsql volatile security definer set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function purge_dead(text,text,text,timestamp with time zone,bigint,integer) (state text DEFAULT NULL::text, kind text DEFAULT NULL::text, queue text DEFAULT NULL::text, before timestamp with time zone DEFAULT NULL::timestamp with time zone, after bigint DEFAULT NULL::bigint, most integer DEFAULT 5000, OUT purged bigint, OUT last bigint) returns record language plpgsql volatile security definer set search_path=<schema>, pg_temp
function reap(timestamp with time zone) (p_leader_since timestamp with time zone DEFAULT '-infinity'::timestamp with time zone) returns bigint language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function refuse_parent(bigint) (p_job bigint) returns void language plpgsql immutable set search_path=<schema>, pg_temp
function register_worker(text,text,bigint,text,text[],text[],bigint,integer,integer[]) (name text, host text, pid bigint, version text, queues text[], kinds text[], lease_ms bigint, slots integer, max_attempts integer[] DEFAULT NULL::integer[]) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function release_acked(bigint,bigint[],text[]) (p_worker bigint, p_tokens bigint[], p_acked text[]) returns void language plpgsql volatile security definer set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function release_children(bigint[],boolean,integer,boolean) (p_jobs bigint[], p_ok boolean DEFAULT NULL::boolean, p_limit integer DEFAULT 1000, p_wait boolean DEFAULT true) returns bigint language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function remove_schedule(text) (name text) returns boolean language plpgsql volatile security definer set search_path=<schema>, pg_temp
function report_progress(bigint,jsonb) (p_worker bigint, p_reports jsonb) returns void language plpgsql volatile security definer set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function reserve_ids(integer) (n integer) returns bigint[] language plpgsql volatile security definer set search_path=<schema>, pg_temp
function reset_kind(text) (kind text) returns boolean language plpgsql volatile security definer set search_path=<schema>, pg_temp
function reset_limit(text,text) (scope text, name text) returns boolean language plpgsql volatile security definer set search_path=<schema>, pg_temp
function result_rows(jsonb) (p_results jsonb) returns TABLE(token bigint, pos integer, id bigint, value text, bytes text, problem text) language sql stable
function resume_key(text,text) (kind text, key text) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function resume_kind(text) (kind text) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function resume_queue(text) (queue text) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function resume_schedule(text) (name text) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function retake_key(bigint,bigint,jsonb) (p_job bigint, p_lane bigint, p_options jsonb) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function retry(bigint) (id bigint) returns boolean language plpgsql volatile security definer set search_path=<schema>, pg_temp
function retry_dead(text,text,text,timestamp with time zone,bigint,integer) (state text DEFAULT 'failed'::text, kind text DEFAULT NULL::text, queue text DEFAULT NULL::text, before timestamp with time zone DEFAULT NULL::timestamp with time zone, after bigint DEFAULT NULL::bigint, most integer DEFAULT 500, OUT retried bigint, OUT last bigint) returns record language plpgsql volatile security definer set search_path=<schema>, pg_temp
function ring(bigint) (p_lane bigint) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function role_rights() () returns TABLE(grp text, what text, object text, rights text, columns text[]) language sql immutable set search_path=<schema>, pg_temp
function rotate_ahead() () returns integer language plpgsql volatile security definer set TimeZone=UTC set search_path=<schema>, pg_temp
function rules_lock() () returns integer language sql immutable parallel safe
function run_schedule(text) (name text) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function schedule_definition(schedule) (s schedule) returns jsonb language plpgsql stable security definer set search_path=<schema>, pg_temp
function schedule_due(schedule,timestamp with time zone) (s schedule, p_tick timestamp with time zone) returns timestamp with time zone language plpgsql immutable set search_path=<schema>, pg_temp
function schedule_enqueue(schedule,timestamp with time zone) (s schedule, p_tick timestamp with time zone, OUT job bigint, OUT status text) returns record language plpgsql volatile security definer set search_path=<schema>, pg_temp
function schedule_last(schedule,timestamp with time zone,timestamp with time zone) (s schedule, p_from timestamp with time zone, p_until timestamp with time zone) returns timestamp with time zone language plpgsql stable security definer set search_path=<schema>, pg_temp
function schedule_next(schedule,timestamp with time zone) (s schedule, p_after timestamp with time zone) returns timestamp with time zone language plpgsql stable security definer set search_path=<schema>, pg_temp
function schedule_note(bigint,text) (p_job bigint, p_status text) returns text language sql immutable parallel safe
function schedule_of(text,jsonb) (p_name text, p_definition jsonb) returns schedule language plpgsql stable security definer set search_path=<schema>, pg_temp
function schedule_problems(text,jsonb) (owner text, schedules jsonb) returns TABLE(i integer, problem text, hint text) language plpgsql volatile security definer set search_path=<schema>, pg_temp
function schedule_refuse(text,text,text,text) (p_name text, p_key text, p_value text, p_allowed text) returns void language plpgsql volatile set search_path=<schema>, pg_temp
function schedule_start(schedule,timestamp with time zone) (INOUT s schedule, p_now timestamp with time zone) returns schedule language plpgsql volatile security definer set search_path=<schema>, pg_temp
function schedule_ticks(schedule,timestamp with time zone) (s schedule, p_now timestamp with time zone, OUT ticks timestamp with time zone[], OUT last_tick timestamp with time zone) returns record language plpgsql stable security definer set search_path=<schema>, pg_temp
function served(bigint) (p_worker bigint) returns TABLE(lane bigint, queue_priority integer, priority integer, express boolean) language sql stable
function set_kind(text,jsonb) (kind text, changes jsonb) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function set_kind_setting(text,text,text) (p_kind text, p_name text, p_value text) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function set_limit(text,text,integer,numeric,integer) (scope text, name text, concurrency integer DEFAULT NULL::integer, per_second numeric DEFAULT NULL::numeric, burst integer DEFAULT NULL::integer) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function set_queue_priority(text,integer) (queue text, priority integer) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function set_schedule(text,jsonb) (name text, changes jsonb) returns text language plpgsql volatile security definer set search_path=<schema>, pg_temp
function settle(bigint) (p_worker bigint) returns bigint language plpgsql volatile security definer set search_path=<schema>, pg_temp
function share_lane_of(text,text,integer,boolean,boolean,text) (queue text, kind text, priority integer, keyed boolean, express boolean, share text) returns bigint language sql immutable parallel safe
function share_of(text,text,integer,jsonb,text) (p_kind text, p_queue text, p_priority integer, p_headers jsonb, p_key text) returns text language plpgsql stable security definer set search_path=<schema>, pg_temp
function share_of_tenant(text,text,integer,boolean,text) (p_kind text, p_queue text, p_priority integer, p_keyed boolean, p_value text) returns text language plpgsql stable security definer set enable_bitmapscan=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function snapshot_now() () returns pg_snapshot language plpgsql volatile set search_path=<schema>, pg_temp
function someone_waits() () returns boolean language sql volatile
function split_partition(text,timestamp with time zone) (p_relname text, p_at timestamp with time zone) returns void language plpgsql volatile security definer set TimeZone=UTC set lock_timeout=50ms set search_path=<schema>, pg_temp
function stats() () returns TABLE(queue text, kind text, state text, jobs bigint, oldest_at timestamp with time zone, last_minute bigint, last_hour bigint) language sql stable security definer set jit=off set search_path=<schema>, pg_temp
function status() () returns TABLE(schema_version text, program_version text, leader bigint, leader_name text, leader_since timestamp with time zone, leader_seen_at timestamp with time zone, workers bigint, slots bigint, running bigint, available bigint, queues_paused text[], kinds_paused text[], oldest_available_at timestamp with time zone, next_due_at timestamp with time zone, dead_last_hour bigint, at timestamp with time zone) language sql stable security definer set jit=off set search_path=<schema>, pg_temp
function sync_schedules(text,jsonb) (owner text, schedules jsonb) returns jsonb language plpgsql volatile security definer set search_path=<schema>, pg_temp
function take_back(bigint,bigint[],boolean) (p_worker bigint, p_tokens bigint[], p_crashed boolean) returns bigint language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function take_key(text,text,bigint,text,timestamp with time zone) (p_kind text, p_key text, p_job bigint, p_scope text, p_until timestamp with time zone) returns bigint language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function take_key_or_amend(text,text,bigint,text,timestamp with time zone,text,jsonb,bytea,jsonb,timestamp with time zone) (p_kind text, p_key text, p_job bigint, p_scope text, p_until timestamp with time zone, p_on_duplicate text, p_payload jsonb, p_payload_bytes bytea, p_headers jsonb, p_due timestamp with time zone, OUT holder bigint, OUT status text) returns record language plpgsql volatile security definer set search_path=<schema>, pg_temp
function take_paced_turns(text,integer,bigint[],xid8[],text[],bigint[],integer) (p_kind text, p_limit integer, p_ids bigint[], p_txids xid8[], p_keys text[], p_sizes bigint[], p_want integer, OUT ids bigint[], OUT txids xid8[], OUT keys text[], OUT seqs bigint[]) returns record language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=on set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function take_token(uuid,bigint,bytea) (p_token uuid, p_job bigint, p_fingerprint bytea, OUT id bigint, OUT status text) returns record language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function take_turns(text,integer,bigint[],xid8[],text[],bigint[],integer) (p_kind text, p_limit integer, p_ids bigint[], p_txids xid8[], p_keys text[], p_sizes bigint[], p_want integer, OUT ids bigint[], OUT txids xid8[], OUT keys text[], OUT seqs bigint[]) returns record language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=on set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function tell_idle(bigint) (p_worker bigint) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function tell_limits(bigint,bigint[]) (p_worker bigint, p_tokens bigint[]) returns void language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function tell_waiters(bigint,bigint[],text[]) (p_worker bigint, p_tokens bigint[], p_acked text[]) returns void language plpgsql volatile security definer set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function tell_waiters_of_dead() () returns trigger language plpgsql volatile security definer set search_path=<schema>, pg_temp
function tenant_of(text,jsonb,text) (p_kind text, p_headers jsonb, p_key text) returns text language plpgsql stable security definer set search_path=<schema>, pg_temp
function tend_children(integer) (p_limit integer DEFAULT 5000) returns bigint language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function tend_keys(integer) (p_limit integer DEFAULT 1000) returns bigint language plpgsql volatile security definer set enable_seqscan=off set jit=off set search_path=<schema>, pg_temp
function time_options(timestamp with time zone,interval,interval,timestamp with time zone,interval) (p_expires_at timestamp with time zone, p_expires_in interval, p_timeout interval, p_run_at timestamp with time zone, p_delay interval) returns jsonb language plpgsql stable security definer set search_path=<schema>, pg_temp
function turn_key(jsonb) (p_options jsonb) returns text language sql immutable parallel safe
function turn_of(text,text) (p_kind text, p_key text) returns SETOF key_turn language sql stable
function unbell(bigint[]) (lanes bigint[]) returns void language sql volatile security definer set search_path=<schema>, pg_temp
function unfrozen() () returns SETOF text language sql stable security definer set search_path=<schema>, pg_temp
function unwatch_jobs(bigint[]) (ids bigint[]) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function utc_text(timestamp with time zone) (p_at timestamp with time zone) returns text language sql stable parallel safe
function wait_for_lane(bigint) (p_lane bigint) returns boolean language plpgsql volatile security definer set lock_timeout=1s set search_path=<schema>, pg_temp
function wait_for_limit(text,text) (p_scope text, p_name text) returns boolean language plpgsql volatile security definer set lock_timeout=200ms set search_path=<schema>, pg_temp
function wait_for_parents(bigint,jsonb) (p_id bigint, p_options jsonb) returns text language plpgsql volatile security definer set enable_bitmapscan=off set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function wait_space() () returns integer language sql immutable parallel safe
function waits_for(bigint,integer) (id bigint, most integer DEFAULT 1000) returns TABLE(parent bigint, state text, kind text) language sql stable security definer set enable_hashjoin=off set enable_mergejoin=off set enable_seqscan=off set jit=off set plan_cache_mode=force_generic_plan set search_path=<schema>, pg_temp
function wake(text) (p_message text) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function wake_one(bigint) (p_worker bigint) returns void language plpgsql volatile security definer set search_path=<schema>, pg_temp
function watch_jobs(bigint[]) (ids bigint[]) returns text language plpgsql volatile security definer set search_path=<schema>, pg_temp
function with_time_left(jsonb) (p_options jsonb) returns jsonb language sql volatile security definer set search_path=<schema>, pg_temp
function write_schedule(text,jsonb,text,timestamp with time zone) (p_name text, p_definition jsonb, p_owner text, p_now timestamp with time zone DEFAULT clock_timestamp()) returns text language plpgsql volatile security definer set search_path=<schema>, pg_temp
function xmin_holders(interval) (older_than interval DEFAULT '00:01:00'::interval) returns TABLE(what text, name text, pid integer, role text, application text, state text, since timestamp with time zone, xmin_age bigint) language sql stable security definer set search_path=<schema>, pg_temp
function zone_change(timestamp with time zone,timestamp with time zone,text) (p_from timestamp with time zone, p_to timestamp with time zone, p_zone text) returns timestamp with time zone language plpgsql stable set search_path=<schema>, pg_temp
function zone_offset(timestamp with time zone,text) (t timestamp with time zone, zone text) returns interval language sql stable parallel safe
index attempt_error_at CREATE INDEX attempt_error_at ON attempt_error USING brin (at) WITH (pages_per_range='16', autosummarize='on')
index attempt_error_job CREATE INDEX attempt_error_job ON attempt_error USING btree (job, attempt)
index batch_claimed_at CREATE INDEX batch_claimed_at ON batch USING brin (claimed_at) WITH (pages_per_range='16')
index batch_pkey CREATE UNIQUE INDEX batch_pkey ON batch USING btree (lane, seq)
index batch_token CREATE UNIQUE INDEX batch_token ON batch USING btree (worker, token)
index broker_cron_name_key CREATE UNIQUE INDEX broker_cron_name_key ON broker_cron USING btree (name)
index broker_cron_pkey CREATE UNIQUE INDEX broker_cron_pkey ON broker_cron USING btree (id)
index broker_cron_schedule_key CREATE UNIQUE INDEX broker_cron_schedule_key ON broker_cron USING btree (schedule)
index broker_instance_active CREATE UNIQUE INDEX broker_instance_active ON broker_instance USING btree ((true)) WHERE shutdown_at IS NULL
index broker_instance_pkey CREATE UNIQUE INDEX broker_instance_pkey ON broker_instance USING btree (id)
index broker_job_at CREATE INDEX broker_job_at ON broker_job USING btree (at)
index broker_job_pkey CREATE UNIQUE INDEX broker_job_pkey ON broker_job USING btree (job)
index cancel_request_pkey CREATE UNIQUE INDEX cancel_request_pkey ON cancel_request USING btree (job)
index cancel_request_worker CREATE INDEX cancel_request_worker ON cancel_request USING btree (worker)
index dead_ended CREATE INDEX dead_ended ON dead USING btree (ended_at, id)
index dead_pkey CREATE UNIQUE INDEX dead_pkey ON dead USING btree (id)
index deferred_due CREATE INDEX deferred_due ON deferred USING btree (due_at, id)
index deferred_pkey CREATE UNIQUE INDEX deferred_pkey ON deferred USING btree (id)
index dependency_check_parent CREATE INDEX dependency_check_parent ON dependency_check USING btree (parent)
index dependency_parent CREATE INDEX dependency_parent ON dependency USING btree (parent, child)
index dependency_pkey CREATE UNIQUE INDEX dependency_pkey ON dependency USING btree (child, parent)
index done_pkey CREATE UNIQUE INDEX done_pkey ON done USING btree (worker, token, pos)
index enqueue_token_at CREATE INDEX enqueue_token_at ON enqueue_token USING btree (at)
index enqueue_token_pkey CREATE UNIQUE INDEX enqueue_token_pkey ON enqueue_token USING btree (token)
index expiry_at CREATE INDEX expiry_at ON expiry USING btree (at)
index heartbeat_worker CREATE INDEX heartbeat_worker ON heartbeat USING btree (worker, at DESC)
index job_id_idx CREATE INDEX job_id_idx ON ONLY job USING btree (id)
index job_lane CREATE INDEX job_lane ON ONLY job USING btree (lane, txid, id)
index key_due_at CREATE INDEX key_due_at ON key_due USING btree (at)
index key_due_key CREATE INDEX key_due_key ON key_due USING btree (kind, key, at)
index key_hold_key CREATE INDEX key_hold_key ON key_hold USING btree (kind, key, until)
index key_rule_pkey CREATE UNIQUE INDEX key_rule_pkey ON key_rule USING btree (kind, key)
index key_turn_hash CREATE UNIQUE INDEX key_turn_hash ON key_turn USING btree (hashtextextended(key, hashtext(kind)::bigint), seq, kind, key)
index kind_pkey CREATE UNIQUE INDEX kind_pkey ON kind USING btree (kind)
index kind_setting_pkey CREATE UNIQUE INDEX kind_setting_pkey ON kind_setting USING btree (kind, name, origin)
index lane_names CREATE INDEX lane_names ON lane USING btree (queue, kind, priority, express, keyed, share)
index lane_pkey CREATE UNIQUE INDEX lane_pkey ON lane USING btree (lane)
index lane_seen_lane CREATE INDEX lane_seen_lane ON lane_seen USING btree (lane)
index lane_seen_names CREATE INDEX lane_seen_names ON lane_seen USING btree (queue, kind, priority, keyed, share)
index leader_pkey CREATE UNIQUE INDEX leader_pkey ON leader USING btree (id)
index limit_bucket_pkey CREATE UNIQUE INDEX limit_bucket_pkey ON limit_bucket USING btree (scope, name, seq)
index limit_rule_pkey CREATE UNIQUE INDEX limit_rule_pkey ON limit_rule USING btree (name, scope, origin)
index meta_pkey CREATE UNIQUE INDEX meta_pkey ON meta USING btree (key)
index migration_pkey CREATE UNIQUE INDEX migration_pkey ON migration USING btree (version)
index parked_id CREATE INDEX parked_id ON parked USING btree (id)
index parked_pkey CREATE UNIQUE INDEX parked_pkey ON parked USING btree (kind, key, seq)
index progress_pkey CREATE UNIQUE INDEX progress_pkey ON progress USING btree (job)
index queue_pkey CREATE UNIQUE INDEX queue_pkey ON queue USING btree (queue)
index result_at CREATE INDEX result_at ON result USING brin (at) WITH (pages_per_range='16', autosummarize='on')
index result_pkey CREATE UNIQUE INDEX result_pkey ON result USING btree (job)
index schedule_due CREATE INDEX schedule_due ON schedule USING btree (due_at) WHERE due_at IS NOT NULL
index schedule_fire_at CREATE INDEX schedule_fire_at ON schedule_fire USING btree (at)
index schedule_fire_pkey CREATE UNIQUE INDEX schedule_fire_pkey ON schedule_fire USING btree (schedule, tick)
index schedule_pkey CREATE UNIQUE INDEX schedule_pkey ON schedule USING btree (name)
index unique_key_pkey CREATE UNIQUE INDEX unique_key_pkey ON unique_key USING btree (kind, key)
index worker_live CREATE INDEX worker_live ON worker USING btree (id) WHERE reaped_at IS NULL
index worker_pkey CREATE UNIQUE INDEX worker_pkey ON worker USING btree (id)
sequence broker_cron_id_seq as bigint start 1 increment 1 min 1 max 9223372036854775807 cache 1
sequence broker_instance_id_seq as bigint start 1 increment 1 min 1 max 9223372036854775807 cache 1
sequence dependency_mark as bigint start 1 increment 1 min 1 max 9223372036854775807 cache 1
sequence job_id as bigint start 1 increment 1 min 1 max 9223372036854775807 cache 1
sequence leader_id_seq as bigint start 1 increment 1 min 1 max 9223372036854775807 cache 1
sequence rule_mark as bigint start 1 increment 1 min 1 max 9223372036854775807 cache 1
sequence worker_id_seq as bigint start 1 increment 1 min 1 max 9223372036854775807 cache 1
table attempt_error
table batch with (fillfactor=60)
table broker_cron
table broker_instance with (fillfactor=50)
table broker_job
table cancel_request
table dead
table deferred
table dependency
table dependency_check
table done
table enqueue_token
table expiry
table heartbeat
table job partition by RANGE (queued_at)
table key_check
table key_due
table key_hold
table key_rule
table key_turn
table kind
table kind_setting
table lane
table lane_seen
table leader
table limit_bucket
table limit_rule
table meta
table migration
table parked
table progress with (fillfactor=50)
table queue
table result
table schedule
table schedule_fire
table unique_key with (fillfactor=80)
table worker
trigger dead_children on dead CREATE TRIGGER dead_children AFTER INSERT ON dead FOR EACH ROW WHEN (has_dependents()) EXECUTE FUNCTION children_of_dead()
trigger dead_told on dead CREATE TRIGGER dead_told AFTER INSERT ON dead FOR EACH ROW WHEN (someone_waits()) EXECUTE FUNCTION tell_waiters_of_dead()
trigger kind_marked on kind CREATE TRIGGER kind_marked AFTER INSERT OR UPDATE ON kind FOR EACH ROW WHEN (new.paused) EXECUTE FUNCTION mark_rules()
trigger limit_rule_marked on limit_rule CREATE TRIGGER limit_rule_marked AFTER INSERT ON limit_rule FOR EACH ROW EXECUTE FUNCTION mark_rules()
trigger queue_marked on queue CREATE TRIGGER queue_marked AFTER INSERT OR UPDATE ON queue FOR EACH ROW WHEN (new.paused) EXECUTE FUNCTION mark_rules()
view broker_jobs
view broker_queueinstance
view broker_schedule
view jobs
view kind_settings
view limits
view partition
view schedules
