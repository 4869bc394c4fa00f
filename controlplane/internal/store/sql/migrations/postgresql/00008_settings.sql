-- +goose Up
-- Serialised by the build that committed them; NULL where that was one that did not keep them.
ALTER TABLE middleware ADD COLUMN settings BYTEA;
ALTER TABLE revision_changes ADD COLUMN before_settings BYTEA;
ALTER TABLE revision_changes ADD COLUMN after_settings BYTEA;

-- +goose Down
ALTER TABLE revision_changes DROP COLUMN after_settings;
ALTER TABLE revision_changes DROP COLUMN before_settings;
ALTER TABLE middleware DROP COLUMN settings;
