"""Single tiles of left-out patients, explained: for a page of cases, and for readers to judge."""
