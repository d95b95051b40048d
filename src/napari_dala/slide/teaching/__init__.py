"""A drawn slide, of no patient."""
