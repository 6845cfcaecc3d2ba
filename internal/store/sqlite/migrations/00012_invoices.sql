-- Invoices as documents, numbers by series, and what a close depends on.

-- +goose Up
ALTER TABLE closes ADD COLUMN progressive INTEGER NOT NULL DEFAULT 0 CHECK (progressive IN (0, 1));
ALTER TABLE closes ADD COLUMN catalog_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE closes ADD COLUMN changes INTEGER NOT NULL DEFAULT 0;

-- The document is the whole invoice; NULL: an older version stored it in columns alone. number runs through all series.
ALTER TABLE invoices ADD COLUMN document TEXT;
ALTER TABLE invoices ADD COLUMN series TEXT NOT NULL DEFAULT '';
ALTER TABLE invoices ADD COLUMN series_number INTEGER; -- NULL: number
CREATE UNIQUE INDEX invoices_series ON invoices (series, coalesce(series_number, number));
CREATE INDEX invoices_subscription ON invoices (subscription_id, period_end);
-- +goose StatementBegin
CREATE TRIGGER invoices_series_gapless BEFORE INSERT ON invoices
WHEN coalesce(NEW.series_number, NEW.number) <> (SELECT coalesce(max(coalesce(series_number, number)), 0) + 1 FROM invoices WHERE series = NEW.series)
BEGIN SELECT RAISE(ABORT, 'the invoice numbers of a series follow each other without a gap'); END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER invoices_series_gapless;
DROP INDEX invoices_subscription;
DROP INDEX invoices_series;
ALTER TABLE invoices DROP COLUMN series_number;
ALTER TABLE invoices DROP COLUMN series;
ALTER TABLE invoices DROP COLUMN document;
ALTER TABLE closes DROP COLUMN changes;
ALTER TABLE closes DROP COLUMN catalog_version;
ALTER TABLE closes DROP COLUMN progressive;
