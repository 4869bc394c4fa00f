-- +goose Up
-- "resource" is a whole resource as the API shows it, with references as ids and without secrets, for people and tools
-- that read the database. It is NULL in a row that a build without the column has written; the next start of this build
-- fills it. Columns that the store itself does not ask for are generated from it.
--
-- Columns of the design that are not here: services.discovered_at, services.last_health_check and
-- service_endpoints.healthy are what nodes and discovery observe and no part of a revision; the API and the nodes'
-- metrics have them.
ALTER TABLE policies ADD COLUMN resource JSONB;
ALTER TABLE certificates ADD COLUMN resource JSONB;
ALTER TABLE consumers ADD COLUMN resource JSONB;
-- "position" stays beside "order_index": builds without "order_index" write it.
ALTER TABLE middleware ADD COLUMN resource JSONB,
  ADD COLUMN order_index BIGINT GENERATED ALWAYS AS (position) STORED;
ALTER TABLE pipelines ADD COLUMN resource JSONB,
  ADD COLUMN middleware_ids JSONB GENERATED ALWAYS AS (resource -> 'middleware_ids') STORED;
ALTER TABLE services ADD COLUMN resource JSONB,
  ADD COLUMN health_check_config JSONB GENERATED ALWAYS AS (resource -> 'health_check_config') STORED,
  ADD COLUMN circuit_breaker_config JSONB GENERATED ALWAYS AS (resource -> 'circuit_breaker_config') STORED;
-- An endpoint's id is unique within its service.
ALTER TABLE service_endpoints ADD COLUMN id TEXT NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE routes ADD COLUMN resource JSONB,
  ADD COLUMN method TEXT GENERATED ALWAYS AS (resource ->> 'method') STORED,
  ADD COLUMN service_id TEXT REFERENCES services (id) DEFERRABLE INITIALLY DEFERRED;

-- The design's indexes, and what answers them:
-- routes (path, method): routes_by_path. A path has few routes, and methods are a list. It serves LIKE '/api/%' too.
-- routes (service_id): routes_by_service, and route_backends_by_service for routes that share their traffic out.
-- routes (enabled): routes_disabled. Nearly all routes are enabled, and an index does not help to find these.
-- service_endpoints (service_id): the primary key, which begins with it.
-- service_endpoints (healthy): none, since there is no such column.
CREATE INDEX routes_by_path ON routes (path text_pattern_ops);
CREATE INDEX routes_by_service ON routes (service_id);
CREATE INDEX routes_disabled ON routes (name) WHERE NOT enabled;
CREATE INDEX service_endpoints_by_id ON service_endpoints (id);

COMMENT ON COLUMN policies.body IS 'the message gateway.config.v1.Policy as it was committed; "resource" is the same, to be read';
COMMENT ON COLUMN certificates.body IS 'the message gateway.config.v1.Certificate as it was committed, with its key; "resource" is the same without it, to be read';
COMMENT ON COLUMN consumers.body IS 'the message gateway.config.v1.Consumer as it was committed; "resource" is the same, to be read';
COMMENT ON COLUMN middleware.body IS 'the message gateway.config.v1.Middleware as it was committed; "resource" is the same, to be read';
COMMENT ON COLUMN middleware.settings IS 'the message of the type that nodes get for "config", as it was committed';
COMMENT ON COLUMN middleware.position IS 'the same as order_index, for builds that do not know that column';
COMMENT ON COLUMN pipelines.body IS 'the message gateway.config.v1.Pipeline as it was committed; "resource" is the same, to be read';
COMMENT ON COLUMN services.body IS 'the message gateway.config.v1.Service as it was committed; "resource" is the same, to be read';
COMMENT ON COLUMN routes.body IS 'the message gateway.config.v1.Route as it was committed; "resource" is the same, to be read';

-- +goose Down
DROP INDEX service_endpoints_by_id;
DROP INDEX routes_disabled;
DROP INDEX routes_by_service;
DROP INDEX routes_by_path;
ALTER TABLE routes DROP COLUMN service_id, DROP COLUMN method, DROP COLUMN resource;
ALTER TABLE service_endpoints DROP COLUMN id;
ALTER TABLE services DROP COLUMN circuit_breaker_config, DROP COLUMN health_check_config, DROP COLUMN resource;
ALTER TABLE pipelines DROP COLUMN middleware_ids, DROP COLUMN resource;
ALTER TABLE middleware DROP COLUMN order_index, DROP COLUMN resource;
ALTER TABLE consumers DROP COLUMN resource;
ALTER TABLE certificates DROP COLUMN resource;
ALTER TABLE policies DROP COLUMN resource;
