-- +goose Up
CREATE TABLE IF NOT EXISTS discovered (
  service_id TEXT PRIMARY KEY,
  question   TEXT NOT NULL,
  endpoints  BYTEA NOT NULL,
  changed_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE discovered;
