-- +goose Up
ALTER TABLE meta ADD COLUMN allowed_shrink BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE meta DROP COLUMN allowed_shrink;
