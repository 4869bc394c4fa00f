-- +goose Up
CREATE TABLE join_tokens (
  id         TEXT PRIMARY KEY,
  hash       BYTEA NOT NULL,
  node_group TEXT NOT NULL,
  node_id    TEXT NOT NULL,
  uses       BIGINT NOT NULL,
  used       BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);

CREATE TABLE join_token_uses (
  token_id TEXT NOT NULL REFERENCES join_tokens (id) ON DELETE CASCADE,
  node_id  TEXT NOT NULL,
  node_key BYTEA NOT NULL,
  PRIMARY KEY (token_id, node_id, node_key)
);

CREATE TABLE revoked_nodes (
  node_id    TEXT PRIMARY KEY,
  generation BIGINT NOT NULL,
  revoked    BIGINT NOT NULL,
  reason     TEXT NOT NULL,
  revoked_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE revoked_nodes;
DROP TABLE join_token_uses;
DROP TABLE join_tokens;
