"""From finished runs to tables: records, collection, statistics, the published numbers."""
