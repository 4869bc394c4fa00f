-- +goose Up
-- The columns and indexes of PostgreSQL's migration of this number, which says what they are for.
ALTER TABLE policies ADD COLUMN resource TEXT;
ALTER TABLE certificates ADD COLUMN resource TEXT;
ALTER TABLE consumers ADD COLUMN resource TEXT;
ALTER TABLE middleware ADD COLUMN resource TEXT;
ALTER TABLE middleware ADD COLUMN order_index BIGINT GENERATED ALWAYS AS (position) VIRTUAL;
ALTER TABLE pipelines ADD COLUMN resource TEXT;
ALTER TABLE pipelines ADD COLUMN middleware_ids TEXT GENERATED ALWAYS AS (resource -> '$.middleware_ids') VIRTUAL;
ALTER TABLE services ADD COLUMN resource TEXT;
ALTER TABLE services ADD COLUMN health_check_config TEXT GENERATED ALWAYS AS (resource -> '$.health_check_config') VIRTUAL;
ALTER TABLE services ADD COLUMN circuit_breaker_config TEXT GENERATED ALWAYS AS (resource -> '$.circuit_breaker_config') VIRTUAL;
ALTER TABLE service_endpoints ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE routes ADD COLUMN resource TEXT;
ALTER TABLE routes ADD COLUMN method TEXT GENERATED ALWAYS AS (resource ->> '$.method') VIRTUAL;
ALTER TABLE routes ADD COLUMN service_id TEXT REFERENCES services (id) DEFERRABLE INITIALLY DEFERRED;

CREATE INDEX routes_by_path ON routes (path);
CREATE INDEX routes_by_service ON routes (service_id);
CREATE INDEX routes_disabled ON routes (name) WHERE NOT enabled;
CREATE INDEX service_endpoints_by_id ON service_endpoints (id);

-- +goose Down
DROP INDEX service_endpoints_by_id;
DROP INDEX routes_disabled;
DROP INDEX routes_by_service;
DROP INDEX routes_by_path;
ALTER TABLE routes DROP COLUMN service_id;
ALTER TABLE routes DROP COLUMN method;
ALTER TABLE routes DROP COLUMN resource;
ALTER TABLE service_endpoints DROP COLUMN id;
ALTER TABLE services DROP COLUMN circuit_breaker_config;
ALTER TABLE services DROP COLUMN health_check_config;
ALTER TABLE services DROP COLUMN resource;
ALTER TABLE pipelines DROP COLUMN middleware_ids;
ALTER TABLE pipelines DROP COLUMN resource;
ALTER TABLE middleware DROP COLUMN order_index;
ALTER TABLE middleware DROP COLUMN resource;
ALTER TABLE consumers DROP COLUMN resource;
ALTER TABLE certificates DROP COLUMN resource;
ALTER TABLE policies DROP COLUMN resource;
