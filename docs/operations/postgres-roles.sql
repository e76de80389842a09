-- Two roles for a ledger on Postgres: one that owns the tables and migrates them, one that the daemon works as.
-- Run as a superuser (or the database's owner with CREATEROLE), in the ledger's database, after `reconcile migrate`,
-- and again after each later one:
--
--   psql -d reconciler -f docs/operations/postgres-roles.sql
--
-- `reconcile migrate`, `import` and `restore` are run as reconciler_owner; everything else as reconciler_daemon. Give
-- each a way to log in that suits you (pg_hba.conf, ALTER ROLE ... PASSWORD); no password stands here.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'reconciler_owner') THEN
        CREATE ROLE reconciler_owner LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'reconciler_daemon') THEN
        CREATE ROLE reconciler_daemon LOGIN CONNECTION LIMIT 100;
    END IF;
END $$;

-- The owner has the schema and all that is in it.
DO $$
DECLARE
    name text;
BEGIN
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO reconciler_owner', current_database());
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('ALTER TABLE public.%I OWNER TO reconciler_owner', name);
    END LOOP;
    FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' LOOP
        EXECUTE format('ALTER SEQUENCE public.%I OWNER TO reconciler_owner', name);
    END LOOP;
    -- Nobody else makes anything, anywhere in this database.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO reconciler_daemon', current_database());
END $$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO reconciler_owner;
GRANT USAGE ON SCHEMA public TO reconciler_daemon;

-- The daemon reads everything, and gets nothing from before.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM reconciler_daemon;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM reconciler_daemon;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reconciler_daemon;
GRANT USAGE ON SEQUENCE ledger_clock TO reconciler_daemon;

-- What only grows: no act of a person, no statement of a provider or a bank is ever changed or removed.
GRANT INSERT ON
    audit_log, break_event, period_lock, report_snapshot, control_total, payout_members, bank_line
TO reconciler_daemon;

-- Versions are never removed; their bodies shrink when a person is forgotten, and are sealed anew when keys change.
GRANT INSERT, UPDATE (body) ON version TO reconciler_daemon;

-- What moves on, and stays.
GRANT INSERT, UPDATE ON
    resource, delivery_tally, coverage, finding, bucket, token, redaction, sealing_key, change, feed, subscription,
    console_key, machine_token, job, aside_state
TO reconciler_daemon;

-- What also ends: by retention, or because it is worked out anew.
GRANT INSERT, UPDATE, DELETE ON
    delivery, delivery_link, delivery_mark, missed_event, expectation, read_tally, gate, alert, secret_seen,
    subscription_secret, outbox, outbox_attempt, console_user, console_session,
    entry, payout_member, unread, movement, movement_name, aside_group, aside_flow,
    carried_span, carried_balance, carried_paid
TO reconciler_daemon;
