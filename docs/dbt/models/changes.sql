-- An incremental model over the change feed: each run adds what came since the last one, and passes by nothing.
{{ config(materialized='incremental', unique_key='position', on_schema_change='fail') }}

select position, ref, kind, version, previous_version, state, status, cause, recorded_at
from {{ source('reconciler', 'change_feed') }}
{% if is_incremental() %}
where position > (select coalesce(max(position), 0) from {{ this }})
{% endif %}
