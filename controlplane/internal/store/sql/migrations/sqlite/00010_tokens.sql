-- +goose Up
CREATE TABLE tokens (
  id           TEXT PRIMARY KEY,
  name         TEXT NOT NULL,
  hash         BLOB NOT NULL UNIQUE,
  role         TEXT NOT NULL,
  kinds        TEXT NOT NULL,
  labels       TEXT NOT NULL,
  user_name    TEXT NOT NULL,
  created_by   TEXT NOT NULL,
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  last_used_at INTEGER NOT NULL DEFAULT 0,
  revoked_at   INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE access (
  one     INTEGER PRIMARY KEY CHECK (one = 1),
  changes INTEGER NOT NULL
);
INSERT INTO access (one, changes) VALUES (1, 1);

-- +goose Down
DROP TABLE access;
DROP TABLE tokens;
