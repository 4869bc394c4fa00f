-- +goose Up
CREATE TABLE leases (
  name       TEXT PRIMARY KEY,
  holder     TEXT NOT NULL,
  expires_at BIGINT NOT NULL
);

CREATE TABLE secrets (
  name       TEXT PRIMARY KEY,
  value      BYTEA NOT NULL
);

-- +goose Down
DROP TABLE secrets;
DROP TABLE leases;
