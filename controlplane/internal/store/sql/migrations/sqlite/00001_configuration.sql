-- +goose Up
CREATE TABLE meta (
  one        INTEGER PRIMARY KEY CHECK (one = 1),
  epoch      TEXT NOT NULL,
  head       BIGINT NOT NULL
);

CREATE TABLE revisions (
  number       BIGINT PRIMARY KEY,
  draft_id     TEXT NOT NULL UNIQUE,
  created_at   BIGINT NOT NULL,
  author       TEXT NOT NULL,
  message      TEXT NOT NULL,
  rollback_of  BIGINT NOT NULL,
  allow_shrink BOOLEAN NOT NULL,
  hash         BLOB NOT NULL,
  change_count BIGINT NOT NULL
);

CREATE TABLE revision_changes (
  revision     BIGINT NOT NULL REFERENCES revisions (number),
  seq          BIGINT NOT NULL,
  kind         TEXT NOT NULL,
  resource_id  TEXT NOT NULL,
  before       BLOB,
  after        BLOB,
  PRIMARY KEY (revision, seq)
);

CREATE TABLE policies (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, version BIGINT NOT NULL,
  labels TEXT NOT NULL, timeout TEXT NOT NULL, max_timeout TEXT NOT NULL, max_request_bytes BIGINT, body BLOB NOT NULL
);

CREATE TABLE certificates (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, version BIGINT NOT NULL,
  labels TEXT NOT NULL, hosts TEXT NOT NULL, not_after TEXT, body BLOB NOT NULL
);

CREATE TABLE consumers (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, version BIGINT NOT NULL,
  labels TEXT NOT NULL, groups_in TEXT NOT NULL, body BLOB NOT NULL
);

CREATE TABLE middleware (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, version BIGINT NOT NULL,
  labels TEXT NOT NULL, type TEXT NOT NULL, position BIGINT NOT NULL, enabled BOOLEAN NOT NULL, config TEXT NOT NULL, body BLOB NOT NULL
);

CREATE TABLE pipelines (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, version BIGINT NOT NULL,
  labels TEXT NOT NULL, parallel BOOLEAN NOT NULL, timeout_ms BIGINT NOT NULL, is_global BOOLEAN NOT NULL, body BLOB NOT NULL
);

CREATE TABLE pipeline_middleware (
  pipeline_id   TEXT NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  seq           BIGINT NOT NULL,
  middleware_id TEXT NOT NULL REFERENCES middleware (id) DEFERRABLE INITIALLY DEFERRED,
  PRIMARY KEY (pipeline_id, seq)
);
CREATE INDEX pipeline_middleware_by_middleware ON pipeline_middleware (middleware_id);

CREATE TABLE services (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, version BIGINT NOT NULL,
  labels TEXT NOT NULL, protocol TEXT NOT NULL, load_balancer_type TEXT NOT NULL,
  pipeline_id TEXT REFERENCES pipelines (id) DEFERRABLE INITIALLY DEFERRED, policy_id TEXT REFERENCES policies (id) DEFERRABLE INITIALLY DEFERRED, body BLOB NOT NULL
);
CREATE INDEX services_by_pipeline ON services (pipeline_id);
CREATE INDEX services_by_policy ON services (policy_id);

CREATE TABLE service_endpoints (
  service_id TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  seq        BIGINT NOT NULL,
  host       TEXT NOT NULL,
  port       BIGINT NOT NULL,
  weight     BIGINT NOT NULL,
  PRIMARY KEY (service_id, seq)
);

CREATE TABLE routes (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, version BIGINT NOT NULL,
  labels TEXT NOT NULL, path TEXT NOT NULL, methods TEXT NOT NULL, hosts TEXT NOT NULL, enabled BOOLEAN NOT NULL, priority BIGINT NOT NULL,
  pipeline_id TEXT REFERENCES pipelines (id) DEFERRABLE INITIALLY DEFERRED, policy_id TEXT REFERENCES policies (id) DEFERRABLE INITIALLY DEFERRED, body BLOB NOT NULL
);
CREATE INDEX routes_by_pipeline ON routes (pipeline_id);
CREATE INDEX routes_by_policy ON routes (policy_id);

CREATE TABLE route_backends (
  route_id   TEXT NOT NULL REFERENCES routes (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  seq        BIGINT NOT NULL,
  service_id TEXT NOT NULL REFERENCES services (id) DEFERRABLE INITIALLY DEFERRED,
  weight     BIGINT NOT NULL,
  PRIMARY KEY (route_id, seq)
);
CREATE INDEX route_backends_by_service ON route_backends (service_id);

-- +goose Down
DROP TABLE route_backends;
DROP TABLE routes;
DROP TABLE service_endpoints;
DROP TABLE services;
DROP TABLE pipeline_middleware;
DROP TABLE pipelines;
DROP TABLE middleware;
DROP TABLE consumers;
DROP TABLE certificates;
DROP TABLE policies;
DROP TABLE revision_changes;
DROP TABLE revisions;
DROP TABLE meta;
