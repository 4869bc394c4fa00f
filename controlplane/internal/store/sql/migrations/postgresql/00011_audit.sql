-- +goose Up
CREATE TABLE audit (
  id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at           BIGINT NOT NULL,
  actor        TEXT NOT NULL,
  method       TEXT NOT NULL,
  user_name    TEXT NOT NULL,
  token_id     TEXT NOT NULL,
  address      TEXT NOT NULL,
  request_id   TEXT NOT NULL,
  call         TEXT NOT NULL,
  outcome      TEXT NOT NULL,
  code         TEXT NOT NULL,
  reason       TEXT NOT NULL,
  message      TEXT NOT NULL,
  revision     BIGINT NOT NULL,
  count        BIGINT NOT NULL,
  change_count BIGINT NOT NULL,
  changes      TEXT NOT NULL
);
CREATE INDEX audit_outcome ON audit (outcome, id);
CREATE INDEX audit_actor ON audit (actor, id);

CREATE TABLE audit_resources (
  audit_id BIGINT NOT NULL REFERENCES audit (id) ON DELETE CASCADE,
  kind     TEXT NOT NULL,
  name     TEXT NOT NULL
);
CREATE INDEX audit_resources_name ON audit_resources (name, kind);
CREATE INDEX audit_resources_audit ON audit_resources (audit_id);

-- +goose Down
DROP TABLE audit_resources;
DROP TABLE audit;
