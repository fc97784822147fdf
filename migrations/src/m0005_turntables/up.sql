-- A conversion may have a loop of its mesh turning, beside the still picture.
ALTER TABLE asset DROP CONSTRAINT asset_kind_check;
ALTER TABLE asset ADD CONSTRAINT asset_kind_check CHECK (kind IN ('source', 'preview', 'turntable', 'mesh'));
