"""What the autointerp page shows: its view in the link, runs, their records, tables and figures."""
