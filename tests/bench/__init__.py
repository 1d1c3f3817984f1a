"""`make bench`: what a build costs and what an update sends, beside the best peers there are."""
