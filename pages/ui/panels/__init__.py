"""A run's panels on a page: as charts, or as widgets where a kind of panel can be clicked."""
