-- +goose Up
CREATE TABLE join_tokens (
  id         TEXT PRIMARY KEY,
  hash       BLOB NOT NULL,
  node_group TEXT NOT NULL,
  node_id    TEXT NOT NULL,
  uses       INTEGER NOT NULL,
  used       INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
);

CREATE TABLE join_token_uses (
  token_id TEXT NOT NULL REFERENCES join_tokens (id) ON DELETE CASCADE,
  node_id  TEXT NOT NULL,
  node_key BLOB NOT NULL,
  PRIMARY KEY (token_id, node_id, node_key)
);

CREATE TABLE revoked_nodes (
  node_id    TEXT PRIMARY KEY,
  generation INTEGER NOT NULL,
  revoked    INTEGER NOT NULL,
  reason     TEXT NOT NULL,
  revoked_at INTEGER NOT NULL
);

-- +goose Down
DROP TABLE revoked_nodes;
DROP TABLE join_token_uses;
DROP TABLE join_tokens;
