DROP FUNCTION submit_conversions;
