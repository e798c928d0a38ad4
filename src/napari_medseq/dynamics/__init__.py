"""Dynamic series: enhancement curves of a region over time, and cine."""
