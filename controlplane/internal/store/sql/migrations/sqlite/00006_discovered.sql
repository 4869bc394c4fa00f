-- +goose Up
CREATE TABLE IF NOT EXISTS discovered (
  service_id TEXT PRIMARY KEY,
  question   TEXT NOT NULL,
  endpoints  BLOB NOT NULL,
  changed_at INTEGER NOT NULL
);

-- +goose Down
DROP TABLE discovered;
