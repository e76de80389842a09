-- The change feed as a view, for dbt and for whatever else reads SQL. Run it once, as the owner of the ledger's tables,
-- after CREATE SCHEMA reporting AUTHORIZATION that owner (as who owns the database); a role that only reads needs USAGE
-- on the schema and SELECT on the view alone.
--
-- Read `position` as the cursor: positions are given after the commit, one transaction at a time, so that
-- `WHERE position > (the last one you have)` passes by nothing. `recorded_at` is no cursor: commits overtake each other.
CREATE VIEW reporting.change_feed AS
SELECT c.position,
       r.provider || '/' || r.account || '/' || r.kind || '/' || r.remote_id AS ref,
       r.provider,
       r.account,
       r.kind,
       r.remote_id,
       v.version,
       nullif(v.version - 1, 0) AS previous_version,
       v.state,
       v.status,
       v.cause,
       to_timestamp(v.recorded_at / 1000000.0) AS recorded_at,
       v.resource_id
FROM public.change c
JOIN public.version v ON v.resource_id = c.resource_id AND v.version = c.version
JOIN public.resource r ON r.id = c.resource_id
WHERE c.position IS NOT NULL;

-- The money lines of each version, to be joined on (resource_id, version).
CREATE VIEW reporting.change_entry AS
SELECT e.resource_id,
       e.version,
       e.ordinal,
       e.balance_type,
       e.category,
       e.currency,
       e.gross AS gross_minor,
       e.fee AS fee_minor,
       e.net AS net_minor,
       to_timestamp(e.effective_at / 1000000.0) AS effective_at
FROM public.entry e;
