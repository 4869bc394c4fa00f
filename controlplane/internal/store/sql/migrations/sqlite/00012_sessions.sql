-- +goose Up
ALTER TABLE tokens ADD COLUMN session_of TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE tokens DROP COLUMN session_of;
