-- +goose Up
CREATE TABLE data_keys (
  id         BIGINT PRIMARY KEY,
  wrapped_by TEXT NOT NULL,
  wrapped    BYTEA NOT NULL,
  created_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE data_keys;
