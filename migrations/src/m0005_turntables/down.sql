DELETE FROM asset WHERE kind = 'turntable';
ALTER TABLE asset DROP CONSTRAINT asset_kind_check;
ALTER TABLE asset ADD CONSTRAINT asset_kind_check CHECK (kind IN ('source', 'preview', 'mesh'));
